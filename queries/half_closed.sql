-- Which of some sockets have left a FIN-WAIT-2 that is still there, or may have: their connection is not
-- known to be over. What a socket left whose event came after the last dump, the next one shows.
--
-- Parameters: :socket_ids (JSON), :is_last (1: there is no next dump).
-- Order: none. Index: primary keys.
SELECT e.socket_id
FROM socket_ends AS e
JOIN endings AS n ON n.ending = e.ending
LEFT JOIN remains AS m ON m.socket_id = e.socket_id
WHERE e.socket_id IN (SELECT value FROM json_each(:socket_ids))
    AND CASE WHEN m.socket_id IS NOT NULL
        THEN m.time_wait_snapshot_id IS NULL AND m.last_snapshot_id IS NULL
        ELSE :is_last IS NOT 1 AND n.evidence IN ('fin_acked', 'half_closed', 'silent_after_fin')
            AND e.destroyed_snapshot_id = (SELECT max(snapshot_id) FROM snapshots) END
