-- What retention does with a window that is long over.
DELETE FROM rollup_window;
UPDATE meta SET rollup_pruned_before_ms = 1795168800001;
