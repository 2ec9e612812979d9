//! Which network namespaces are recorded, and what each is asked for from when to when.

use rusqlite::{Connection, OptionalExtension, params};

use super::captures::Start;
use super::columns::int;
use super::tick::{Done, TickWriter};
use crate::model::{
    Arrival, ExceptionKind, Family, NamespaceFacts, NetnsId, Protocol, RefusedNamespace, Scope,
    ScopeId, SnapshotId, States,
};

/// A namespace that a recording knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerNamespace {
    /// Its number.
    pub id: NetnsId,
    /// `SO_NETNS_COOKIE`.
    pub cookie: Option<u64>,
    /// Its inode number, which the kernel re-uses.
    pub inode: Option<u64>,
}

/// The namespaces of a boot that a recording knows, and what each was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownNamespaces {
    /// Each of them.
    pub namespaces: Vec<FormerNamespace>,
    /// Their scopes.
    pub scopes: Vec<(ScopeId, Scope)>,
    /// The first free number.
    pub next_netns: NetnsId,
    /// The first free number.
    pub next_scope: ScopeId,
}

/// The number of the first namespace of a capture.
pub(super) fn begin(
    connection: &Connection,
    boot: i64,
    facts: &NamespaceFacts,
) -> rusqlite::Result<NetnsId> {
    // The cookie is the key; only where the kernel tells none must the inode do.
    let known: Option<i64> = connection
        .query_row(
            "SELECT netns_id FROM namespaces
             WHERE boot_id = ?1 AND netns_cookie IS ?2 AND (?2 IS NOT NULL OR inode IS ?3)",
            params![boot, int(facts.cookie), int(facts.inode)],
            |r| r.get(0),
        )
        .optional()?;
    let netns = match known {
        Some(id) => id,
        None => connection.query_row(
            "SELECT coalesce(max(netns_id), 0) + 1 FROM namespaces",
            [],
            |r| r.get(0),
        )?,
    };
    write(connection, boot, NetnsId(netns), facts)?;
    Ok(NetnsId(netns))
}

/// One that is known may have come to have a name, and its range of ports may have been changed.
fn write(
    connection: &Connection,
    boot: i64,
    netns: NetnsId,
    facts: &NamespaceFacts,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO namespaces (netns_id, boot_id, netns_cookie, inode, name,
                 first_local_port, last_local_port)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET name = coalesce(excluded.name, name),
                 first_local_port = coalesce(excluded.first_local_port, first_local_port),
                 last_local_port = coalesce(excluded.last_local_port, last_local_port)",
        )?
        .execute(params![
            netns.0,
            boot,
            int(facts.cookie),
            int(facts.inode),
            facts.name,
            facts.local_ports.map(|(first, _)| first),
            facts.local_ports.map(|(_, last)| last),
        ])?;
    Ok(())
}

/// What of a scope is stored: states and filter are not known or both.
type Stored<'a> = (i64, u8, u16, Option<u32>, Option<&'a str>);

fn stored(scope: &Scope) -> Stored<'_> {
    let is_known = scope.states != States::NONE;
    let states = is_known.then_some(scope.states.0);
    let filter = is_known.then_some(scope.filter.as_str());
    (scope.netns.0, scope.family.number(), scope.protocol.number(), states, filter)
}

/// The number of a scope that a capture looks at from its first snapshot on.
pub(super) fn add_scope(
    connection: &Connection,
    start: &Start,
    scope: &Scope,
) -> rusqlite::Result<ScopeId> {
    let known: Option<i64> = connection
        .query_row(
            "SELECT scope_id FROM scopes WHERE netns_id = ?1 AND family = ?2 AND protocol = ?3
                 AND states IS ?4 AND filter IS ?5",
            stored(scope),
            |r| r.get(0),
        )
        .optional()?;
    let id = match known {
        Some(id) => id,
        None => {
            connection.execute(
                "INSERT INTO scopes (netns_id, family, protocol, states, filter)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                stored(scope),
            )?;
            connection.last_insert_rowid()
        }
    };
    connection.execute(
        "INSERT INTO capture_scopes (capture_id, scope_id, first_snapshot_id) VALUES (?1, ?2, ?3)
         ON CONFLICT DO NOTHING",
        params![start.capture, id, start.next_snapshot.0],
    )?;
    Ok(ScopeId(id))
}

/// What is known of the namespaces of the boot of a capture.
pub(super) fn known(connection: &Connection, start: &Start) -> rusqlite::Result<KnownNamespaces> {
    let boot: i64 = connection.query_row(
        "SELECT boot_id FROM captures WHERE capture_id = ?1",
        [start.capture],
        |r| r.get(0),
    )?;
    let namespaces = connection
        .prepare("SELECT netns_id, netns_cookie, inode FROM namespaces WHERE boot_id = ?1")?
        .query_map([boot], |r| {
            let unsigned = |i| r.get::<_, Option<i64>>(i).map(|v| v.map(i64::cast_unsigned));
            let (cookie, inode) = (unsigned(1)?, unsigned(2)?);
            Ok(FormerNamespace { id: NetnsId(r.get(0)?), cookie, inode })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let scopes = connection
        .prepare(
            "SELECT s.scope_id, s.netns_id, s.family, s.protocol, s.states, s.filter
             FROM scopes AS s JOIN namespaces AS w ON w.netns_id = s.netns_id
             WHERE w.boot_id = ?1",
        )?
        .query_map([boot], |r| {
            let (Some(family), Some(protocol)) =
                (Family::from_number(r.get(2)?), Protocol::from_number(r.get(3)?))
            else {
                return Ok(None);
            };
            let states = r.get::<_, Option<u32>>(4)?.map_or(States::NONE, States);
            let filter = r.get::<_, Option<String>>(5)?.unwrap_or_default();
            let netns = NetnsId(r.get(1)?);
            Ok(Some((ScopeId(r.get(0)?), Scope { netns, family, protocol, states, filter })))
        })?
        .filter_map(Result::transpose)
        .collect::<rusqlite::Result<_>>()?;
    let (netns, scope) = connection.query_row(
        "SELECT (SELECT coalesce(max(netns_id), 0) FROM namespaces),
             (SELECT coalesce(max(scope_id), 0) FROM scopes)",
        [],
        |r| Ok((NetnsId(r.get(0)?), ScopeId(r.get(1)?))),
    )?;
    let (next_netns, next_scope) = (netns.next(), scope.next());
    Ok(KnownNamespaces { namespaces, scopes, next_netns, next_scope })
}

impl TickWriter<'_> {
    /// A namespace is recorded from a snapshot on. One that was let go of before and has come back was
    /// not asked meanwhile.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn arrival(&mut self, start: &Start, arrival: &Arrival) -> Done {
        let add = || -> rusqlite::Result<()> {
            let boot: i64 = self
                .transaction
                .prepare_cached("SELECT boot_id FROM captures WHERE capture_id = ?1")?
                .query_row([start.capture], |r| r.get(0))?;
            write(&self.transaction, boot, arrival.netns, &arrival.facts)?;
            let asked_until: Option<i64> = self
                .transaction
                .prepare_cached(
                    "SELECT max(cs.last_snapshot_id) FROM capture_scopes AS cs
                     JOIN scopes AS sc ON sc.scope_id = cs.scope_id
                     WHERE cs.capture_id = ?1 AND sc.netns_id = ?2",
                )?
                .query_row([start.capture, arrival.netns.0], |r| r.get(0))?;
            self.transaction
                .prepare_cached(
                    "INSERT INTO unasked_namespaces (snapshot_id, netns_id)
                     SELECT snapshot_id, ?2 FROM held_snapshots
                     WHERE capture_id = ?1 AND snapshot_id > ?3",
                )?
                .execute(params![start.capture, arrival.netns.0, asked_until])?;
            for (id, scope) in &arrival.scopes {
                let (netns, family, protocol, states, filter) = stored(scope);
                self.transaction
                    .prepare_cached(
                        "INSERT INTO scopes (scope_id, netns_id, family, protocol, states, filter)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
                    )?
                    .execute(params![id.0, netns, family, protocol, states, filter])?;
                self.transaction
                    .prepare_cached(
                        "INSERT INTO noted_exceptions (snapshot_id, kind, scope_id)
                         SELECT n.snapshot_id, ?3, cs.scope_id FROM capture_scopes AS cs
                         JOIN held_snapshots AS n ON n.capture_id = cs.capture_id
                            AND n.snapshot_id > cs.last_snapshot_id AND n.snapshot_id <= ?4
                         WHERE cs.capture_id = ?1 AND cs.scope_id = ?2",
                    )?
                    .execute(params![
                        start.capture,
                        id.0,
                        ExceptionKind::NotAsked.name(),
                        asked_until
                    ])?;
                self.transaction
                    .prepare_cached(
                        "INSERT INTO capture_scopes (capture_id, scope_id, first_snapshot_id)
                         VALUES (?1, ?2, ?3)
                         ON CONFLICT DO UPDATE SET last_snapshot_id = NULL",
                    )?
                    .execute(params![start.capture, id.0, arrival.first.0])?;
            }
            Ok(())
        };
        add().map_err(|e| self.error(e))
    }

    /// A snapshot passed over a namespace.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn passed_over(&mut self, snapshot: SnapshotId, netns: NetnsId) -> Done {
        self.run(
            "INSERT INTO unasked_namespaces (snapshot_id, netns_id) VALUES (?1, ?2)",
            [snapshot.0, netns.0],
        )
    }

    /// A namespace that is meant cannot be recorded from this snapshot on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn refused(
        &mut self,
        start: &Start,
        first: SnapshotId,
        refused: &RefusedNamespace,
    ) -> Done {
        self.run(
            "INSERT OR IGNORE INTO refused_namespaces (capture_id, name, first_snapshot_id, errno,
                 message)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![start.capture, refused.name, first.0, refused.errno, refused.message],
        )
    }

    /// From this snapshot on it can be, or is not meant any more.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn admitted(&mut self, start: &Start, next: SnapshotId, name: &str) -> Done {
        self.run(
            "UPDATE refused_namespaces SET last_snapshot_id = ?3 - 1
             WHERE capture_id = ?1 AND name = ?2 AND last_snapshot_id IS NULL",
            params![start.capture, name, next.0],
        )
    }

    /// A scope was asked for the last time: its namespace has left, or the kernel does not have it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn last_asked(&mut self, start: &Start, scope: ScopeId, last: SnapshotId) -> Done {
        self.run(
            "UPDATE capture_scopes SET last_snapshot_id = ?3
             WHERE capture_id = ?1 AND scope_id = ?2",
            params![start.capture, scope.0, last.0],
        )
    }
}
