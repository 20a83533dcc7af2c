-- What the servers of a ledger share beside it, such as the hashes of tokens.

-- +goose Up
CREATE TABLE graven.documents (
    name    text PRIMARY KEY,
    version bigint NOT NULL,
    content bytea NOT NULL
);

-- save_document replaces a document of a version; one that is not there yet has
-- the version 0.
-- +goose StatementBegin
CREATE FUNCTION graven.save_document(named text, replaces bigint, new_content bytea) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = graven, pg_temp AS $$
BEGIN
    IF replaces = 0 THEN
        INSERT INTO documents VALUES (named, 1, new_content) ON CONFLICT DO NOTHING;
    ELSE
        UPDATE documents SET version = replaces + 1, content = new_content WHERE name = named AND version = replaces;
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another server has replaced the document %', named USING ERRCODE = 'GR005';
    END IF;
END $$;
-- +goose StatementEnd

REVOKE ALL ON graven.documents FROM PUBLIC;
REVOKE ALL ON FUNCTION graven.save_document FROM PUBLIC;
GRANT SELECT ON graven.documents TO graven_writer;
GRANT EXECUTE ON FUNCTION graven.save_document TO graven_writer;
