-- What several hosts, or a queue outside the process, need to know of steps.
--
-- entry: how often the attempt was woken. dispatched_at: when the step was last published; set with ready_at, raised when it is published again.

ALTER TABLE steps ADD COLUMN entry INTEGER NOT NULL DEFAULT 0;
ALTER TABLE steps ADD COLUMN dispatched_at INTEGER;
UPDATE steps SET dispatched_at = ready_at WHERE ready_at IS NOT NULL;
