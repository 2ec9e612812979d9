//! What is kept of each live socket, in little room: there may be a hundred thousand of them.

use crate::model::ActivityTimes;

/// A message. Most of its 32-bit words are zero or small (of 500 bytes of an established connection 371
/// are zero): of each word the low bytes are kept, none, one, two or four, in the order of the words.
#[derive(Debug)]
pub(super) struct Packed(Box<[u8]>);

const WORD: usize = 4;
/// Words whose sizes one byte tells, two bits each.
const WORDS_A_BYTE: usize = 4;
/// Bytes that are kept of a word, and where its value is in them.
const SIZES: [(usize, u32); 4] = [(0, 0), (1, 0xff), (2, 0xffff), (4, u32::MAX)];

impl Packed {
    pub(super) fn new(message: &[u8]) -> Self {
        let mut packed = vec![0; packed_len(message)].into_boxed_slice();
        pack(message, &mut packed);
        Self(packed)
    }

    /// Takes the place of the last one, most often in its room.
    pub(super) fn replace(&mut self, message: &[u8]) {
        if self.0.len() == packed_len(message) {
            pack(message, &mut self.0);
        } else {
            *self = Self::new(message);
        }
    }

    /// The message as it was.
    pub(super) fn unpack(&self) -> Vec<u8> {
        let Some(parts) = self.parts() else { return Vec::new() };
        let mut message = Vec::with_capacity(parts.count * WORD + parts.rest.len());
        for word in self.words() {
            message.extend_from_slice(&word.to_le_bytes());
        }
        message.extend_from_slice(parts.rest);
        message
    }

    /// Its first bytes.
    pub(super) fn first<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        for (bytes, word) in bytes.chunks_exact_mut(WORD).zip(self.words()) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn words(&self) -> impl Iterator<Item = u32> {
        let Parts { count, sizes, mut words, .. } = self.parts().unwrap_or_default();
        (0..count).map_while(move |i| {
            let size = sizes[i / WORDS_A_BYTE] >> (i % WORDS_A_BYTE * 2) & 3;
            let (size, mask) = SIZES[usize::from(size)];
            let word = u32::from_le_bytes(*words.first_chunk()?) & mask;
            words = &words[size..];
            Some(word)
        })
    }

    fn parts(&self) -> Option<Parts<'_>> {
        let (length, packed) = self.0.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let count = length / WORD;
        let (rest, packed) = packed.split_at_checked(length % WORD)?;
        let (sizes, words) = packed.split_at_checked(count.div_ceil(WORDS_A_BYTE))?;
        Some(Parts { count, rest, sizes, words })
    }
}

/// Of a packed message.
#[derive(Default)]
struct Parts<'p> {
    /// Of whole words.
    count: usize,
    /// The bytes behind them.
    rest: &'p [u8],
    sizes: &'p [u8],
    words: &'p [u8],
}

fn packed_len(message: &[u8]) -> usize {
    let (words, rest) = message.as_chunks::<WORD>();
    // Without a table several words are looked at together.
    let kept = |word: &[u8; WORD]| {
        let value = u32::from_le_bytes(*word);
        u32::from(value > 0) + u32::from(value > 0xff) + 2 * u32::from(value > 0xffff)
    };
    let kept: u32 = words.iter().map(kept).sum();
    WORD + rest.len() + words.len().div_ceil(WORDS_A_BYTE) + kept as usize + WORD
}

/// The length, the bytes behind the last whole word, the sizes of the words, and the words; behind them
/// zeros, so that each word can be read and written as if it were whole.
fn pack(message: &[u8], packed: &mut [u8]) {
    let (words, rest) = message.as_chunks::<WORD>();
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let sizes_at = WORD + rest.len();
    let mut at = sizes_at + words.len().div_ceil(WORDS_A_BYTE);
    packed[..WORD].copy_from_slice(&length.to_le_bytes());
    packed[WORD..sizes_at].copy_from_slice(rest);
    for (i, four) in words.chunks(WORDS_A_BYTE).enumerate() {
        let mut sizes = 0;
        for (j, word) in four.iter().enumerate() {
            let value = u32::from_le_bytes(*word);
            let code = u8::from(value > 0) + u8::from(value > 0xff) + u8::from(value > 0xffff);
            sizes |= code << (2 * j);
            packed[at..at + WORD].copy_from_slice(word);
            at += SIZES[usize::from(code)].0;
        }
        packed[sizes_at + i] = sizes;
    }
    packed[at..at + WORD].fill(0);
}

/// The times of the last message, of which any may be unknown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times([i64; 4]);

/// No clock shows it.
const UNKNOWN: i64 = i64::MIN;

impl Times {
    /// Whether these are the same moments, as far as the kernel tells moments.
    pub(super) fn are_within(&self, other: &Self, tolerance_ms: i64) -> bool {
        let mut pairs = self.0.iter().zip(&other.0);
        pairs.all(|(&a, &b)| match a == UNKNOWN || b == UNKNOWN {
            true => a == b,
            false => (a - b).abs() <= tolerance_ms,
        })
    }
}

impl From<ActivityTimes> for Times {
    fn from(times: ActivityTimes) -> Self {
        let ActivityTimes {
            timer_expires_at_ms,
            last_data_sent_at_ms,
            last_data_recv_at_ms,
            last_ack_recv_at_ms,
        } = times;
        let all =
            [timer_expires_at_ms, last_data_sent_at_ms, last_data_recv_at_ms, last_ack_recv_at_ms];
        Self(all.map(|ms| ms.unwrap_or(UNKNOWN)))
    }
}

impl From<Times> for ActivityTimes {
    fn from(times: Times) -> Self {
        let [timer_expires_at_ms, last_data_sent_at_ms, last_data_recv_at_ms, last_ack_recv_at_ms] =
            times.0.map(|ms| (ms != UNKNOWN).then_some(ms));
        Self {
            timer_expires_at_ms,
            last_data_sent_at_ms,
            last_data_recv_at_ms,
            last_ack_recv_at_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes as messages have them: many zeros, and lengths that are no whole words.
    fn any_message() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![3 => Just(0), 1 => any::<u8>()];
        prop::collection::vec(byte, 0..1_200)
    }

    proptest! {
        #[test]
        fn a_message_comes_out_as_it_went_in(messages in prop::collection::vec(any_message(), 1..4)) {
            let mut packed = Packed::new(&messages[0]);
            for message in &messages {
                packed.replace(message);
                prop_assert_eq!(&packed.unpack(), message);
                let words = (message.len() / WORD * WORD).min(40);
                prop_assert_eq!(&packed.first::<40>()[..words], &message[..words]);
            }
        }

        #[test]
        fn times_come_out_as_they_went_in(
            sent in any::<Option<i32>>(), received in any::<Option<i32>>()
        ) {
            let times = ActivityTimes {
                timer_expires_at_ms: None,
                last_data_sent_at_ms: sent.map(i64::from),
                last_data_recv_at_ms: received.map(i64::from),
                last_ack_recv_at_ms: Some(0),
            };
            prop_assert_eq!(ActivityTimes::from(Times::from(times)), times);
        }
    }

    #[test]
    fn a_moment_that_is_not_known_is_no_other() {
        let at = |ms| Times::from(ActivityTimes { last_data_sent_at_ms: ms, ..Default::default() });
        assert!(at(None).are_within(&at(None), 50));
        assert!(at(Some(100)).are_within(&at(Some(150)), 50));
        assert!(!at(Some(100)).are_within(&at(Some(151)), 50));
        assert!(!at(Some(100)).are_within(&at(None), 50));
    }
}
