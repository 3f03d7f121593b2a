-- All configuration.
SELECT key, value, updated_at, updated_by FROM app_config
