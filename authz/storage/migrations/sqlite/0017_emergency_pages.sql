-- Emergency access is reviewed page by page, the newest first.
CREATE INDEX emergency_started ON emergency (started_at);
