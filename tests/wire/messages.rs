//! What the captured messages say.

use sockrec::model::{
    ActivityTimes, BbrInfo, CongestionInfo, DctcpInfo, Family, MptcpInfo, Protocol, SocketMemory,
    TcpInfo, TcpState, Timer, VegasInfo,
};
use sockrec::wire::inet_diag::Message;

use crate::layout::TCP_FIELDS;
use crate::payloads::{
    BBRINFO, DCTCPINFO, MESSAGES, PROTOCOL, ULP_INFO, VEGASINFO, attribute, fixture, observe,
    observe_tcp, set_u32, times_of, value_of, with_one,
};

#[test]
fn an_established_connection_is_told_in_full() {
    let payload = fixture("tcp4-established");
    let o = observe_tcp(&payload);
    assert_eq!(o.family, Family::Inet);
    assert_eq!(o.state, TcpState::ESTABLISHED);
    assert!(!o.is_mini);
    assert_eq!(o.timer, Timer::KEEPALIVE);
    assert_eq!(
        (o.tuple.local.address.to_string(), o.tuple.local.port),
        ("127.0.0.1".into(), 40001)
    );
    assert_eq!(
        (o.tuple.remote.address.to_string(), o.tuple.remote.port),
        ("127.0.0.1".into(), 7001)
    );
    assert_eq!(o.tuple.interface, 1);
    assert_eq!((o.rqueue, o.wqueue, o.uid), (Some(0), Some(0), Some(1000)));
    assert!(o.inode.is_some() && o.cookie != 0);
    assert_eq!((o.tcp.bytes_sent, o.tcp.bytes_acked), (Some(5000), Some(5001)));
    assert_eq!((o.tcp.bytes_received, o.tcp.bytes_retrans), (Some(1000), Some(0)));
    assert_eq!((o.tcp.data_segs_out, o.tcp.data_segs_in), (Some(5), Some(5)));
    assert!(o.tcp.rtt_us.is_some() && o.tcp.min_rtt_us.is_some() && o.tcp.rttvar_us.is_some());
    assert_eq!(o.congestion_control, Some("bbr"));
    let Some(CongestionInfo::Bbr(bbr)) = o.congestion else { panic!("{:?}", o.congestion) };
    assert_eq!(Some(bbr.min_rtt_us), o.tcp.min_rtt_us);
    assert_eq!(bbr.pacing_gain, 739);
    assert_eq!((o.tos, o.tclass, o.class_id), (Some(0x10), None, Some(3)));
    assert_eq!((o.mark, o.cgroup_id, o.shutdown), (Some(0x51), Some(1), Some(0)));
    assert_eq!((o.v6only, o.socket_options), (None, Some(0x0052)));
    assert_eq!((o.memory.rcvbuf_bytes, o.memory.drops), (Some(131_072), Some(0)));
    assert_eq!((o.ulp, o.mptcp), (None, MptcpInfo::default()));
    assert!(o.info_tail.is_empty());
}

#[test]
fn ipv6_and_ipv4_mapped_addresses_stay_apart() {
    let v6 = fixture("tcp6-established");
    let v6 = observe_tcp(&v6);
    assert_eq!(v6.tuple.local.address.to_string(), "::1");
    assert_eq!(v6.tclass, Some(0x28));
    let mapped = fixture("tcp6-mapped-established");
    let mapped = observe_tcp(&mapped);
    assert_eq!(mapped.family, Family::Inet6);
    assert_eq!(mapped.tuple.remote.address.to_string(), "::ffff:127.0.0.1");
    assert_eq!((mapped.tuple.local.port, mapped.tuple.remote.port), (7003, 40003));
}

#[test]
fn the_bytes_of_both_ends_are_equal_when_the_ends_are() {
    for (one, _) in MESSAGES {
        for (other, _) in MESSAGES {
            let (one, other) = (fixture(one), fixture(other));
            let (one, other) = (Message::parse(&one).unwrap(), Message::parse(&other).unwrap());
            if one.family() == other.family() {
                let ends = |m: &Message<'_>| (m.tuple().local, m.tuple().remote);
                let is_equal = one.endpoint_bytes() == other.endpoint_bytes();
                assert_eq!(is_equal, ends(&one) == ends(&other));
            }
        }
    }
}

#[test]
fn a_cookie_has_64_bits() {
    let mut payload = fixture("tcp4-established");
    set_u32(&mut payload, 44, 0x0506_0708);
    set_u32(&mut payload, 48, 0x8102_0304);
    assert_eq!(Message::parse(&payload).unwrap().cookie(), 0x8102_0304_0506_0708);
}

#[test]
fn a_listener_shows_its_backlog_in_the_queues() {
    let payload = fixture("tcp4-listen");
    let o = observe_tcp(&payload);
    assert_eq!(o.state, TcpState::LISTEN);
    assert_eq!((o.rqueue, o.wqueue), (Some(2), Some(5)));
}

#[test]
fn of_a_listener_what_the_kernel_never_looked_at_is_unknown() {
    let looked_at =
        ["snd_cwnd", "reordering", "pacing_rate_bytes_per_s", "max_pacing_rate_bytes_per_s"];
    for name in ["tcp4-listen", "tcp4-md5-listen", "tcp6-listen-dual-stack", "tcp6-listen-v6only"] {
        let payload = fixture(name);
        let o = observe_tcp(&payload);
        for field in TCP_FIELDS.iter().filter(|field| !looked_at.contains(&field.name)) {
            assert_eq!((field.get)(&o.tcp), None, "{name}: {}", field.name);
        }
        assert_eq!((o.tcp.snd_cwnd, o.tcp.reordering), (Some(10), Some(3)), "{name}");
        assert_eq!(o.congestion, None, "{name}");
    }
}

#[test]
fn listeners_tell_whether_they_are_dual_stack() {
    assert_eq!(observe_tcp(&fixture("tcp6-listen-dual-stack")).v6only, Some(false));
    assert_eq!(observe_tcp(&fixture("tcp6-listen-v6only")).v6only, Some(true));
}

#[test]
fn mini_sockets_have_neither_owner_nor_counters() {
    for (name, state, timer) in [
        ("tcp4-time-wait", TcpState::TIME_WAIT, Timer::TIMEWAIT),
        ("tcp4-fin-wait2-mini", TcpState::FIN_WAIT2, Timer::TIMEWAIT),
        ("tcp4-syn-recv", TcpState::SYN_RECV, Timer::ON),
    ] {
        let payload = fixture(name);
        let o = observe_tcp(&payload);
        assert_eq!((o.state, o.timer, o.is_mini), (state, timer, true), "{name}");
        assert_eq!((o.rqueue, o.wqueue, o.uid, o.inode), (None, None, None, None), "{name}");
        assert_eq!(o.tcp, TcpInfo::default(), "{name}");
        assert_eq!(o.memory, SocketMemory::default(), "{name}");
        assert!(o.cookie != 0, "{name}");
        assert_eq!(o.mark, Some(0), "{name}");
    }
}

#[test]
fn a_fin_wait2_that_is_still_a_full_socket_keeps_its_counters() {
    for name in ["tcp4-fin-wait2", "tcp4-fin-wait2-orphan"] {
        let payload = fixture(name);
        let o = observe_tcp(&payload);
        assert_eq!((o.state, o.is_mini), (TcpState::FIN_WAIT2, false), "{name}");
        assert_eq!(o.tcp.bytes_acked, Some(1002), "{name}");
        assert_eq!(o.rqueue, Some(0), "{name}");
    }
}

#[test]
fn a_syn_recv_with_tcp_info_is_no_mini_socket() {
    // The child of a TCP Fast Open listener before the handshake is over.
    let mut payload = fixture("tcp4-established");
    payload[1] = TcpState::SYN_RECV.0;
    let o = observe_tcp(&payload);
    assert!(!o.is_mini);
    assert_eq!((o.uid, o.tcp.bytes_received), (Some(1000), Some(1000)));
}

#[test]
fn a_socket_without_a_file_has_no_inode() {
    for name in ["tcp4-not-accepted", "tcp4-fin-wait1-orphan", "tcp4-fin-wait2-orphan"] {
        let o_uid_inode = {
            let payload = fixture(name);
            let o = observe_tcp(&payload);
            (o.uid, o.inode)
        };
        assert_eq!(o_uid_inode, (Some(1000), None), "{name}");
    }
}

#[test]
fn uid_0_without_an_inode_is_nobody() {
    let mut payload = fixture("tcp4-fin-wait1-orphan");
    set_u32(&mut payload, 64, 0);
    assert_eq!(observe_tcp(&payload).uid, None);
    let mut payload = fixture("tcp4-established");
    set_u32(&mut payload, 64, 0);
    assert_eq!(observe_tcp(&payload).uid, Some(0));
}

#[test]
fn a_syn_that_nobody_answered_has_measured_nothing() {
    let payload = fixture("tcp4-syn-sent");
    let o = observe_tcp(&payload);
    assert_eq!((o.state, o.timer), (TcpState::SYN_SENT, Timer::ON));
    assert!(o.timer_retransmits > 0);
    assert_eq!((o.tcp.rtt_us, o.tcp.rttvar_us, o.tcp.min_rtt_us), (None, None, None));
    assert_eq!((o.tcp.snd_ssthresh, o.tcp.delivery_rate_bytes_per_s), (None, None));
    assert_eq!((o.tcp.unacked, o.tcp.bytes_sent), (Some(1), Some(0)));
}

#[test]
fn a_half_closed_connection_tells_which_half() {
    let shutdown = |name| observe_tcp(&fixture(name)).shutdown;
    assert_eq!(shutdown("tcp4-fin-wait2"), Some(2));
    assert_eq!(shutdown("tcp4-close-wait"), Some(1));
    assert_eq!(shutdown("tcp4-fin-wait2-orphan"), Some(3));
}

#[test]
fn a_window_probe_shows_as_the_persist_timer() {
    let payload = fixture("tcp4-window-full");
    let o = observe_tcp(&payload);
    assert_eq!(o.timer, Timer::PERSIST);
    assert_eq!((o.tcp.snd_wnd_bytes, o.tcp.notsent_bytes), (Some(0), o.wqueue));
    assert_eq!(o.tcp.bytes_received, Some(0));
    assert_eq!(o.memory.wmem_queued_bytes, Some(0x003c_1900));
}

#[test]
fn a_bound_tcp_socket_is_closed_and_has_no_counters() {
    let payload = fixture("tcp4-bound");
    let o = observe_tcp(&payload);
    assert_eq!((o.state, o.is_mini), (TcpState::CLOSE, false));
    assert_eq!((o.tuple.local.port, o.tuple.remote.port), (40110, 0));
    assert_eq!(o.tcp, TcpInfo::default());
    assert_eq!((o.uid, o.inode.is_some()), (Some(1000), true));
}

#[test]
fn udp_has_queues_and_memory_but_no_counters() {
    let payload = fixture("udp4-bound");
    let o = observe(&payload, Protocol::Udp);
    assert_eq!((o.state, o.rqueue, o.uid), (TcpState::CLOSE, Some(832), Some(1000)));
    assert_eq!(o.memory.rmem_alloc_bytes, Some(832));
    assert_eq!(o.tcp, TcpInfo::default());
    for (name, local, remote) in [("udp4-connected", 40200, 7020), ("udp6-connected", 40201, 7021)]
    {
        let payload = fixture(name);
        let o = observe(&payload, Protocol::Udp);
        assert_eq!(o.state, TcpState::ESTABLISHED, "{name}");
        assert_eq!((o.tuple.local.port, o.tuple.remote.port), (local, remote), "{name}");
    }
}

#[test]
fn a_raw_socket_has_its_protocol_for_a_port() {
    let mut payload = fixture("udp4-bound");
    payload[4..6].copy_from_slice(&253u16.to_be_bytes());
    payload.extend(attribute(PROTOCOL, &[253]));
    let o = observe(&payload, Protocol::Raw);
    assert_eq!(o.tuple.local.port, 253);
    assert!(o.unknown_attributes.is_empty());
}

#[test]
fn an_mptcp_connection_counts_for_all_its_subflows() {
    let payload = fixture("mptcp4-established");
    let o = observe(&payload, Protocol::Mptcp);
    assert_eq!((o.tuple.local.port, o.tuple.remote.port), (40140, 7014));
    assert_eq!((o.mptcp.subflows, o.mptcp.subflows_max), (Some(1), Some(2)));
    assert_eq!(o.mptcp.subflows_total, Some(2));
    assert_eq!((o.mptcp.flags, o.mptcp.csum_enabled), (Some(2), Some(0)));
    assert_eq!(o.mptcp.write_seq, o.mptcp.snd_una);
    assert_eq!((o.tcp.bytes_sent, o.tcp.bytes_received), (Some(3000), Some(600)));
    assert_eq!((o.tcp.rtt_us, o.congestion_control), (None, None));
    assert!(o.info_tail.is_empty());
}

#[test]
fn an_mptcp_listener_shows_its_backlog_in_the_queues() {
    let payload = fixture("mptcp4-listen");
    let o = observe(&payload, Protocol::Mptcp);
    assert_eq!((o.state, o.rqueue, o.wqueue), (TcpState::LISTEN, Some(0), Some(5)));
    assert_eq!(times_of(payload.clone(), Protocol::Mptcp, 1), ActivityTimes::default());
}

#[test]
fn a_subflow_names_its_ulp_and_keeps_the_details() {
    let payload = fixture("tcp4-mptcp-subflow");
    let o = observe_tcp(&payload);
    assert_eq!(o.ulp, Some("mptcp"));
    assert_eq!(o.ulp_info, value_of(&payload, ULP_INFO));
    assert!(o.tcp.bytes_sent > Some(0));
    let connection = fixture("mptcp4-established");
    assert_eq!(o.inode, observe(&connection, Protocol::Mptcp).inode);
}

#[test]
fn congestion_controls_without_details_have_just_a_name() {
    for (name, algorithm) in [("tcp4-reno", "reno"), ("tcp4-cubic", "cubic")] {
        let payload = fixture(name);
        let o = observe_tcp(&payload);
        assert_eq!((o.congestion_control, o.congestion), (Some(algorithm), None));
    }
}

#[test]
fn the_details_of_each_congestion_control_are_read() {
    let header = fixture("tcp4-reno");
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<_>>();
    let congestion =
        |kind, value: &[u8]| observe_tcp(&with_one(&header, kind, value)).congestion.unwrap();
    assert_eq!(
        congestion(VEGASINFO, &words(&[1, 7, 250, 200])),
        CongestionInfo::Vegas(VegasInfo {
            enabled: 1,
            rtt_count: 7,
            rtt_us: 250,
            min_rtt_us: Some(200)
        })
    );
    let CongestionInfo::Vegas(vegas) = congestion(VEGASINFO, &words(&[1, 0, 0, 0x7fff_ffff]))
    else {
        panic!("not Vegas");
    };
    assert_eq!(vegas.min_rtt_us, None);
    assert_eq!(
        congestion(DCTCPINFO, &words(&[0x0001_0001, 1024, 5, 6])),
        CongestionInfo::Dctcp(DctcpInfo {
            enabled: 1,
            ce_state: 1,
            alpha: 1024,
            ab_ecn_bytes: 5,
            ab_tot_bytes: 6
        })
    );
    assert_eq!(
        congestion(BBRINFO, &words(&[9, 1, 30, 739, 512])),
        CongestionInfo::Bbr(BbrInfo {
            bw_bytes_per_s: (1 << 32) + 9,
            min_rtt_us: 30,
            pacing_gain: 739,
            cwnd_gain: 512
        })
    );
}

#[test]
fn real_messages_have_no_unknown_attribute_and_no_tail() {
    for (name, protocol) in MESSAGES.into_iter().filter(|(name, _)| !name.contains("md5")) {
        let payload = fixture(name);
        let o = observe(&payload, protocol);
        assert!(o.unknown_attributes.is_empty(), "{name}");
        assert!(o.info_tail.is_empty(), "{name}");
    }
}

#[test]
fn the_owner_alone_is_what_the_whole_message_says_of_it() {
    for (name, protocol) in MESSAGES {
        let payload = fixture(name);
        let message = Message::parse(&payload).unwrap();
        let (owner, whole) = (message.owner(), message.observe(protocol));
        assert_eq!((owner.inode, owner.uid), (whole.inode, whole.uid), "{name}");
        assert_eq!((owner.mark, owner.cgroup_id), (whole.mark, whole.cgroup_id), "{name}");
        assert_eq!(owner.interface.unwrap_or(0), whole.tuple.interface, "{name}");
    }
}
