PRAGMA application_id=1163087427;
PRAGMA user_version=1;
BEGIN TRANSACTION;
CREATE TABLE payload_keys (
    subject BLOB NOT NULL,       -- pseudonym
    purpose TEXT NOT NULL,
    grant_seq INTEGER NOT NULL,  -- the grant whose rows this key seals
    key BLOB NOT NULL,           -- AES-256
    PRIMARY KEY (subject, purpose, grant_seq)
) WITHOUT ROWID;
INSERT INTO "payload_keys" VALUES(X'616C6963652D616C6963652D616C6963','ads',3,X'E4950A140E5FEB3658C9EB3A0EDE9C5505DEA42E9E7DD330768BE70057EE8437');
COMMIT;
