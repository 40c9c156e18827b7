-- A refresh token that was replaced stays until its grant ends, to tell a late use from one that never was.
ALTER TABLE refresh_token ADD COLUMN replaced_at INTEGER;
