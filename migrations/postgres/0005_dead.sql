-- Steps that were given up because every host that took them was lost, newest first.

CREATE INDEX steps_dead ON steps (tenant, completed_at, run_id, number) WHERE status = 'FAILED' AND error LIKE '{"code":"STEP_LOST"%';
