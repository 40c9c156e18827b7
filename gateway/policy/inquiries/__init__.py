"""What people ask of a policy set: why, what would change, is it shown by tests, how do others read it."""
