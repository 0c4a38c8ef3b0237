-- Payloads by body_id, for dictGet. A direct dictionary keeps nothing: it looks
-- the bodies up in messages, those that a query asks for and no others. A JOIN
-- would read all of messages, also where nobody selects the payload.
CREATE OR REPLACE DICTIONARY {{name "message_bodies"}}{{onCluster}}
(
    body_id String,
    body    Nullable(String)
)
PRIMARY KEY body_id
SOURCE(CLICKHOUSE({{signIn}}DB {{literal .Database}} TABLE 'messages'))
LAYOUT(COMPLEX_KEY_DIRECT());
