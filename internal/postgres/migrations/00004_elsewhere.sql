-- A ledger is copied here from elsewhere, or was moved away: nothing may be
-- recorded then. The document "elsewhere" says so, where it is not empty. Who
-- copies sets graven.copying in the session.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION graven.refuse_elsewhere() RETURNS trigger LANGUAGE plpgsql SET search_path = graven, pg_temp AS $$
DECLARE
    mark text;
BEGIN
    SELECT convert_from(content, 'UTF8') INTO mark FROM documents WHERE name = 'elsewhere' AND content <> '';
    IF mark IS NOT NULL AND current_setting('graven.copying', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION '%', mark USING ERRCODE = 'GR006';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER refuse_elsewhere BEFORE UPDATE ON graven.ledger_head FOR EACH ROW WHEN (NEW.size <> OLD.size) EXECUTE FUNCTION graven.refuse_elsewhere();
REVOKE ALL ON FUNCTION graven.refuse_elsewhere FROM PUBLIC;
