-- How far the redo log (storage/redo.py) is in this file: records of this epoch up to `applied`.
-- Both move in the transactions that write what the records say, so none is ever applied twice.
CREATE TABLE redo (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    epoch INTEGER NOT NULL,
    applied INTEGER NOT NULL
) STRICT;
INSERT INTO redo VALUES (1, 0, 0);
