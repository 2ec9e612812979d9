//! Structures and messages that are shorter or longer than those of the kernel at hand, and the
//! values that stand for "none".

use std::collections::BTreeSet;
use std::fmt::Debug;

use sockrec::model::{Observation, Protocol, SocketMemory};
use sockrec::wire::WireError;
use sockrec::wire::inet_diag::Message;

use crate::layout::{
    Field, MEMORY_FIELDS, MPTCP_COUNTERS, MPTCP_FIELDS, MPTCP_INFO_LEN, TCP_FIELDS, distinct_bytes,
    distinct_tcp_info,
};
use crate::payloads::{
    HEADER_LEN, INFO, MESSAGES, SKMEMINFO, attribute, attributes, changed, fixture, observe,
    observe_tcp, set_u32, set_u64, times_of, with_attributes, with_one,
};

/// `part` may know less than `whole`, but nothing else.
fn assert_known_less<T: PartialEq + Debug>(what: &str, part: &Option<T>, whole: &Option<T>) {
    assert!(part.is_none() || part == whole, "{what}: {part:?} is not in {whole:?}");
}

fn assert_fields_known_less<T>(fields: &[Field<T>], part: &T, whole: &T) {
    for field in fields {
        assert_known_less(field.name, &(field.get)(part), &(field.get)(whole));
    }
}

/// Every field of `part` is either what `whole` says or absent.
fn assert_observation_known_less(part: &Observation<'_>, whole: &Observation<'_>) {
    assert_eq!(part.family, whole.family);
    assert_eq!(part.state, whole.state);
    assert_eq!(part.is_mini, whole.is_mini);
    assert_eq!(part.timer, whole.timer);
    assert_eq!(part.timer_retransmits, whole.timer_retransmits);
    assert_eq!(part.tuple, whole.tuple);
    assert_eq!(part.cookie, whole.cookie);
    assert_eq!(part.rqueue, whole.rqueue);
    assert_eq!(part.wqueue, whole.wqueue);
    assert_eq!(part.uid, whole.uid);
    assert_eq!(part.inode, whole.inode);
    assert_fields_known_less(TCP_FIELDS, &part.tcp, &whole.tcp);
    assert_fields_known_less(MPTCP_FIELDS, &part.mptcp, &whole.mptcp);
    assert_fields_known_less(MEMORY_FIELDS, &part.memory, &whole.memory);
    assert_known_less("congestion_control", &part.congestion_control, &whole.congestion_control);
    assert_known_less("congestion", &part.congestion, &whole.congestion);
    assert_known_less("tos", &part.tos, &whole.tos);
    assert_known_less("tclass", &part.tclass, &whole.tclass);
    assert_known_less("class_id", &part.class_id, &whole.class_id);
    assert_known_less("shutdown", &part.shutdown, &whole.shutdown);
    assert_known_less("v6only", &part.v6only, &whole.v6only);
    assert_known_less("socket_options", &part.socket_options, &whole.socket_options);
    assert_known_less("mark", &part.mark, &whole.mark);
    assert_known_less("cgroup_id", &part.cgroup_id, &whole.cgroup_id);
    assert_known_less("ulp", &part.ulp, &whole.ulp);
    assert!(part.ulp_info.is_empty() || part.ulp_info == whole.ulp_info);
    assert!(part.info_tail.is_empty() || part.info_tail == whole.info_tail);
}
#[test]
fn a_message_cut_anywhere_says_nothing_but_what_the_whole_says() {
    for (name, protocol) in MESSAGES {
        let whole = fixture(name);
        let whole_times = times_of(whole.clone(), protocol, 1_000_000);
        let whole_observation = observe(&whole, protocol);
        for len in 0..whole.len() {
            let part = &whole[..len];
            let times = times_of(part.to_vec(), protocol, 1_000_000);
            for (part, whole) in [
                (times.timer_expires_at_ms, whole_times.timer_expires_at_ms),
                (times.last_data_sent_at_ms, whole_times.last_data_sent_at_ms),
                (times.last_data_recv_at_ms, whole_times.last_data_recv_at_ms),
                (times.last_ack_recv_at_ms, whole_times.last_ack_recv_at_ms),
            ] {
                assert_known_less(name, &part, &whole);
            }
            match Message::parse(part) {
                Err(e) => {
                    assert!(len < HEADER_LEN, "{name} {len}");
                    assert_eq!(e, WireError::TooShort { needed: HEADER_LEN, got: len });
                }
                Ok(message) => {
                    assert!(len >= HEADER_LEN, "{name} {len}");
                    assert_observation_known_less(&message.observe(protocol), &whole_observation);
                }
            }
        }
    }
}

#[test]
fn an_attribute_cut_short_is_kept_as_it_came() {
    let whole = fixture("tcp4-established");
    for cut in 1..4 {
        let part = &whole[..whole.len() - cut];
        // The last attribute is BBRINFO: a header of four bytes and twenty of value.
        assert_eq!(observe_tcp(part).unknown_attributes, whole[whole.len() - 24..part.len()]);
    }
}

#[test]
fn tcp_info_of_any_length_gives_its_whole_fields_and_keeps_the_rest() {
    let header = fixture("tcp4-established");
    // Where one field ends and the next begins; the first byte, the relative times and the last word are skipped.
    let boundaries: BTreeSet<usize> =
        TCP_FIELDS.iter().map(|field| field.offset + field.len).chain([0, 1, 60, 280]).collect();
    for len in 0..=400 {
        let info = distinct_tcp_info(len);
        let payload = with_one(&header, INFO, &info);
        let o = observe_tcp(&payload);
        for field in TCP_FIELDS {
            let expected = field.read(&info);
            assert_eq!((field.get)(&o.tcp), expected, "{} of {len} bytes", field.name);
        }
        let end = boundaries.range(..=len).next_back().copied().unwrap_or_default();
        assert_eq!(o.info_tail, &info[end..], "{len}");
        assert!(o.unknown_attributes.is_empty(), "{len}");
    }
}

#[test]
fn tcp_info_of_older_kernels_lacks_what_they_did_not_have() {
    let whole = fixture("tcp4-established");
    let newest = observe_tcp(&whole).tcp;
    for len in [104, 120, 136, 144, 160, 192, 200, 224, 232, 240, 248] {
        let older = changed(&whole, INFO, |info| info.truncate(len));
        let o = observe_tcp(&older);
        assert!(o.info_tail.is_empty(), "{len}");
        for field in TCP_FIELDS {
            let expected = if field.reaches(len) { (field.get)(&newest) } else { None };
            assert_eq!((field.get)(&o.tcp), expected, "{} of {len} bytes", field.name);
        }
    }
}

#[test]
fn a_word_that_kernels_disagree_on_is_kept_and_not_read() {
    let whole = fixture("tcp4-established");
    let word = 0x0000_0105_u32;
    let payload = changed(&whole, INFO, |info| set_u32(info, 276, word));
    let o = observe_tcp(&payload);
    assert_eq!(o.info_tail, word.to_ne_bytes());
    let longer = changed(&payload, INFO, |info| info.extend([1, 2, 3, 4]));
    assert_eq!(observe_tcp(&longer).info_tail, [&word.to_ne_bytes()[..], &[1, 2, 3, 4]].concat());
}

#[test]
fn mptcp_info_of_any_length_gives_its_whole_fields_and_keeps_the_rest() {
    let header = fixture("mptcp4-established");
    let ends = MPTCP_FIELDS.iter().map(|field| field.offset + field.len);
    let counters = MPTCP_COUNTERS.iter().map(|field| field.offset + field.len);
    // Skipped: two holes, the limits of the path manager, the relative times.
    let skipped = [0, 8, 44, 84, MPTCP_INFO_LEN];
    let boundaries: BTreeSet<usize> = ends.chain(counters).chain(skipped).collect();
    for len in 0..=160 {
        let info = distinct_bytes(len);
        let payload = with_one(&header, INFO, &info);
        let o = observe(&payload, Protocol::Mptcp);
        for field in MPTCP_FIELDS {
            assert_eq!((field.get)(&o.mptcp), field.read(&info), "{} of {len} bytes", field.name);
        }
        for field in TCP_FIELDS {
            let counter = MPTCP_COUNTERS.iter().find(|counter| counter.name == field.name);
            let expected = counter.and_then(|counter| counter.read(&info));
            assert_eq!((field.get)(&o.tcp), expected, "{} of {len} bytes", field.name);
        }
        let end = boundaries.range(..=len).next_back().copied().unwrap_or_default();
        assert_eq!(o.info_tail, &info[end..], "{len}");
    }
}

#[test]
fn skmeminfo_of_any_length_gives_its_whole_words() {
    let header = fixture("tcp4-established");
    for len in 0..=60 {
        let words = distinct_bytes(len);
        let payload = with_one(&header, SKMEMINFO, &words);
        let o = observe_tcp(&payload);
        for field in MEMORY_FIELDS {
            assert_eq!((field.get)(&o.memory), field.read(&words), "{} of {len}", field.name);
        }
        let is_kept = o.unknown_attributes == attribute(SKMEMINFO, &words);
        assert_eq!(is_kept, len > 36 || len % 4 != 0, "{len}");
    }
}

#[test]
fn meminfo_stands_in_where_there_is_no_skmeminfo() {
    let whole = fixture("tcp4-window-full");
    let old: Vec<_> =
        attributes(&whole).into_iter().filter(|(kind, _)| *kind != SKMEMINFO).collect();
    let old = with_attributes(&whole, &old);
    let (memory, newer) = (observe_tcp(&old).memory, observe_tcp(&whole).memory);
    assert_eq!(
        memory,
        SocketMemory {
            rcvbuf_bytes: None,
            sndbuf_bytes: None,
            optmem_bytes: None,
            backlog_bytes: None,
            drops: None,
            ..newer
        }
    );
    assert_eq!(memory.wmem_queued_bytes, Some(0x003c_1900));
}

#[test]
fn the_kernels_ways_to_say_none_become_none() {
    let whole = fixture("tcp4-established");
    let tcp = |change: fn(&mut Vec<u8>)| observe_tcp(&changed(&whole, INFO, change)).tcp;
    assert_eq!(tcp(|info| set_u32(info, 148, u32::MAX)).min_rtt_us, None);
    assert_eq!(tcp(|info| set_u32(info, 76, 0x7fff_ffff)).snd_ssthresh, None);
    assert_eq!(tcp(|info| set_u32(info, 76, 0x7fff_fffe)).snd_ssthresh, Some(0x7fff_fffe));
    assert_eq!(tcp(|info| set_u64(info, 104, u64::MAX)).pacing_rate_bytes_per_s, None);
    assert_eq!(tcp(|info| set_u64(info, 112, u64::MAX)).max_pacing_rate_bytes_per_s, None);
    assert_eq!(tcp(|info| set_u64(info, 112, 0)).max_pacing_rate_bytes_per_s, Some(0));
    assert_eq!(tcp(|info| set_u32(info, 92, 0)).rcv_rtt_us, None);
    assert_eq!(tcp(|info| set_u64(info, 160, 0)).delivery_rate_bytes_per_s, None);
    let unmeasured = tcp(|info| set_u32(info, 68, 0));
    assert_eq!((unmeasured.rtt_us, unmeasured.rttvar_us), (None, None));
    let steady = tcp(|info| set_u32(info, 72, 0));
    assert!(steady.rtt_us.is_some());
    assert_eq!(steady.rttvar_us, Some(0));
}

#[test]
fn real_sockets_show_the_sentinels() {
    let established = observe_tcp(&fixture("tcp4-established")).tcp;
    assert_eq!((established.snd_ssthresh, established.max_pacing_rate_bytes_per_s), (None, None));
    assert_eq!(observe_tcp(&fixture("tcp4-not-accepted")).tcp.delivery_rate_bytes_per_s, None);
}

#[test]
fn zero_that_was_counted_stays_zero() {
    let payload = fixture("tcp4-not-accepted");
    let o = observe_tcp(&payload);
    assert_eq!((o.tcp.bytes_sent, o.tcp.bytes_received), (Some(0), Some(0)));
    assert_eq!((o.tcp.lost, o.tcp.total_retrans, o.tcp.rehash), (Some(0), Some(0), Some(0)));
}
