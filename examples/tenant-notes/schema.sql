-- The database of tenant-notes. Run once, as a superuser of an empty database: psql -d notes -f schema.sql

-- The program's own role: no superuser, no BYPASSRLS, and not the owner of the table.
CREATE ROLE notes_app LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
CREATE ROLE notes_owner NOLOGIN NOSUPERUSER NOBYPASSRLS;

CREATE TABLE notes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- Written by the policy's own word, so that no INSERT can name another company.
  company_id text NOT NULL DEFAULT current_setting('app.company_id') CHECK (company_id <> ''),
  author text NOT NULL,
  title text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
  text text NOT NULL CHECK (length(text) <= 20000),
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON notes (company_id, id);
ALTER TABLE notes OWNER TO notes_owner;

-- Without the setting a query fails, and after a transaction that had set it the setting is empty, which no company is.
CREATE POLICY own_company ON notes
  USING (company_id = current_setting('app.company_id'))
  WITH CHECK (company_id = current_setting('app.company_id'));
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
-- ENABLE alone does not bind the table's owner: whoever runs a job as the owner would see every company.
ALTER TABLE notes FORCE ROW LEVEL SECURITY;

GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO notes_app;
