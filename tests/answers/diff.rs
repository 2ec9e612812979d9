//! `query diff`: what it costs.

use rusqlite::Connection;

/// Plans do not depend on what is in the tables.
#[test]
fn the_rows_of_one_moment_are_looked_up_in_those_of_the_other() {
    let at = include_str!("../../queries/sockets_at.sql");
    let rows = |ids| at.replace(":snapshot_ids", ids);
    let sql = format!(
        "EXPLAIN QUERY PLAN WITH rows_before AS MATERIALIZED ({}\n), rows_after AS MATERIALIZED ({}\n)\n{}",
        rows("'[1]'"),
        rows("'[2]'"),
        include_str!("../../queries/diff.sql"),
    );
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(include_str!("../../migrations/schema.sql")).unwrap();
    let mut plan = connection.prepare(&sql).unwrap();
    let steps = plan.query_map([], |r| Ok((r.get("parent")?, r.get("detail")?))).unwrap();
    let outermost: Vec<String> = steps
        .map(rusqlite::Result::<(i64, String)>::unwrap)
        .filter(|(parent, detail)| *parent == 0 && detail.starts_with('S'))
        .map(|(_, detail)| detail)
        .collect();
    assert_eq!(
        outermost,
        [
            "SCAN either",
            "SEARCH b USING AUTOMATIC COVERING INDEX (socket_id=?) LEFT-JOIN",
            "SEARCH a USING AUTOMATIC COVERING INDEX (socket_id=?) LEFT-JOIN",
        ]
    );
}
