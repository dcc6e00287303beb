// Package store keeps Kiln's records: builds, releases and what was last seen
// of each archive, in one SQLite file. Every change is one transaction and is
// durable when the call returns (WAL, synchronous=FULL).
//
// Trusted for: which digest a name and channel mean, and how old an archive
// may be. Whoever can write this file can point a channel at another build;
// they cannot make that build's signatures verify.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the "sqlite" driver

	"kiln"
)

// Store is the record file of one state directory.
type Store struct{ db *sql.DB }

// schema holds one migration per version; user_version counts those applied.
var schema = []string{`
CREATE TABLE build (id TEXT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, time INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX build_digest ON build(digest, time);
CREATE TABLE release (seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, channel TEXT NOT NULL, digest TEXT NOT NULL, time INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX release_name ON release(name, channel, seq);
CREATE TABLE archive (id TEXT PRIMARY KEY, date INTEGER NOT NULL);
`}

// Open opens or creates the record file at path.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("opening records: %w", err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)&_pragma=foreign_keys(1)&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("opening records %s: %w", path, err)
	}
	s := &Store{db}
	if err := s.migrate(); err != nil {
		db.Close()
		return nil, fmt.Errorf("opening records %s: %w", path, err)
	}
	return s, nil
}

// Close releases the file.
func (s *Store) Close() error { return s.db.Close() }

func (s *Store) migrate() error {
	var version int
	if err := s.db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(schema) {
		return fmt.Errorf("written by a newer Kiln (schema %d, this one knows %d); upgrade the program", version, len(schema))
	}
	if version == len(schema) {
		return nil
	}
	return s.update(context.Background(), func(tx *sql.Tx) error {
		// Another process may have migrated while this one waited for the lock.
		if err := tx.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		for ; version < len(schema); version++ {
			if _, err := tx.Exec(schema[version]); err != nil {
				return fmt.Errorf("migrating to schema %d: %w", version+1, err)
			}
		}
		_, err := tx.Exec(fmt.Sprintf("PRAGMA user_version = %d", version))
		return err
	})
}

func (s *Store) update(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// PutBuild keeps a build's record, replacing one of the same ID.
func (s *Store) PutBuild(ctx context.Context, b *kiln.Build, time int64) error {
	body, err := kiln.Encode(b)
	if err != nil {
		return fmt.Errorf("keeping build %s: %w", b.ID, err)
	}
	digest := ""
	if b.Artifact != nil {
		digest = string(b.Artifact.Index)
	}
	_, err = s.db.ExecContext(ctx, `INSERT INTO build(id,name,digest,time,body) VALUES(?,?,?,?,?)
		ON CONFLICT(id) DO UPDATE SET name=excluded.name, digest=excluded.digest, time=excluded.time, body=excluded.body`,
		b.ID, b.Name, digest, time, body)
	if err != nil {
		return fmt.Errorf("keeping build %s: %w", b.ID, err)
	}
	return nil
}

// ErrNotFound is returned where no record fits.
var ErrNotFound = fmt.Errorf("not found: %w", fs.ErrNotExist)

// Build returns the newest build with that ID or that image digest.
func (s *Store) Build(ctx context.Context, idOrDigest string) (*kiln.Build, error) {
	var body []byte
	err := s.db.QueryRowContext(ctx, `SELECT body FROM build WHERE id=?1 OR digest=?1 ORDER BY time DESC, rowid DESC LIMIT 1`, idOrDigest).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("build %s: %w", idOrDigest, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("reading build %s: %w", idOrDigest, err)
	}
	b := new(kiln.Build)
	if err := kiln.Decode(body, b); err != nil {
		return nil, fmt.Errorf("reading build %s: %w", idOrDigest, err)
	}
	return b, nil
}

// Put publishes a release: its name and channel mean its digest from now on.
func (s *Store) Put(ctx context.Context, r *kiln.Release) error {
	body, err := kiln.Encode(r)
	if err == nil {
		_, err = s.db.ExecContext(ctx, `INSERT INTO release(name,channel,digest,time,body) VALUES(?,?,?,?,?)`,
			r.Name, r.Channel, string(r.Digest), r.Time, body)
	}
	if err != nil {
		return fmt.Errorf("publishing %s@%s: %w", r.Name, r.Channel, err)
	}
	return nil
}

// Current returns what name and channel mean now, or ErrNotFound.
func (s *Store) Current(ctx context.Context, name, channel string) (*kiln.Release, error) {
	list, err := s.releases(ctx, `WHERE name=? AND channel=? ORDER BY seq DESC LIMIT 1`, name, channel)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s@%s: %w", name, channel, ErrNotFound)
	}
	return list[0], nil
}

// Releases returns the current release of every name and channel, by name.
func (s *Store) Releases(ctx context.Context) ([]*kiln.Release, error) {
	return s.releases(ctx, `WHERE seq IN (SELECT max(seq) FROM release GROUP BY name, channel) ORDER BY name, channel`)
}

// History returns all releases of a name, newest first.
func (s *Store) History(ctx context.Context, name string) ([]*kiln.Release, error) {
	return s.releases(ctx, `WHERE name=? ORDER BY seq DESC LIMIT 1000`, name)
}

func (s *Store) releases(ctx context.Context, where string, args ...any) ([]*kiln.Release, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT body FROM release `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("reading releases: %w", err)
	}
	defer rows.Close()
	var list []*kiln.Release
	for rows.Next() {
		var body []byte
		r := new(kiln.Release)
		if err := rows.Scan(&body); err != nil {
			return nil, fmt.Errorf("reading releases: %w", err)
		}
		if err := kiln.Decode(body, r); err != nil {
			return nil, fmt.Errorf("reading releases: %w", err)
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// Seen returns the newest signed date (Unix seconds) known of an archive's suite, 0 where none is.
func (s *Store) Seen(ctx context.Context, archive string) (int64, error) {
	var date int64
	err := s.db.QueryRowContext(ctx, `SELECT date FROM archive WHERE id=?`, archive).Scan(&date)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return date, err
}

// SetSeen records a signed date; an older one than is known changes nothing.
func (s *Store) SetSeen(ctx context.Context, archive string, date int64) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO archive(id,date) VALUES(?,?) ON CONFLICT(id) DO UPDATE SET date=max(date,excluded.date)`, archive, date)
	if err != nil {
		return fmt.Errorf("recording the date of %s: %w", archive, err)
	}
	return nil
}
