-- Takes the names out of a recording: addresses, names and numbers become others (hidden_address,
-- hidden_text, hidden_number), and what cannot be judged is left out. The words say what is of one kind:
-- an export names it alike.

UPDATE recording SET uuid = hidden_text('recording', uuid);
UPDATE captures SET uuid = hidden_text('capture', uuid), host_name = hidden_text('host', host_name),
    machine_id_hash = hidden_text('machine', machine_id_hash), kernel_release = NULL,
    options = json_remove(options, '$.files');
-- Which sockets were chosen may name them; that they were is said.
UPDATE capture_sources SET recording_uuid = hidden_text('recording', recording_uuid),
    selection = 'choice ' || hidden_text('filter', selection);
UPDATE scopes SET filter = 'filter ' || hidden_text('filter', filter) WHERE filter <> '';
UPDATE boots SET uuid = hidden_text('boot', uuid);
UPDATE namespaces SET netns_cookie = hidden_number('netns_cookie', netns_cookie),
    inode = hidden_number('netns_inode', inode), name = hidden_text('netns', name);
UPDATE noted_exceptions SET message = NULL;
UPDATE refused_namespaces SET name = hidden_text('netns', name), message = NULL;
UPDATE markers SET name = hidden_text('marker', name);

UPDATE sockets SET cookie = hidden_number('cookie', cookie),
    local_address = hidden_address(local_address), remote_address = hidden_address(remote_address),
    inode = hidden_number('inode', inode), uid = hidden_number('uid', uid),
    cgroup_id = hidden_number('cgroup_id', cgroup_id), mark = hidden_number('mark', mark);
UPDATE remains SET cookie = hidden_number('cookie', cookie);
UPDATE processes SET pid = hidden_number('pid', pid), comm = hidden_text('comm', comm), exe = NULL,
    command_line = NULL, uid = hidden_number('uid', uid), user = hidden_text('user', user), cgroup = NULL,
    unit = hidden_text('unit', unit), container = hidden_text('container', container);
UPDATE cgroups SET cgroup_id = hidden_number('cgroup_id', cgroup_id),
    path = hidden_text('cgroup', path), unit = hidden_text('unit', unit),
    container = hidden_text('container', container);

UPDATE settings SET mark = hidden_number('mark', mark),
    cgroup_id = hidden_number('cgroup_id', cgroup_id), class_id = hidden_number('class_id', class_id),
    mptcp_token = NULL, ulp_info = NULL, info_tail = NULL, unknown_attributes = NULL;
UPDATE conditions SET mptcp_write_seq = NULL, mptcp_snd_una = NULL, mptcp_rcv_nxt = NULL;
