//! The allocation bitmap of a network, changed in the base64 text that the object carries.
//!
//! Bit i is address base + i, most significant bit first: a character is six addresses and one address is one
//! character, so that nothing of a bitmap of a megabyte has to be decoded to take one.

use std::ops::RangeInclusive;

/// Most addresses of a bitmap, 2^23: the object has to fit into etcd.
pub(crate) const CAPACITY: u64 = 1 << 23;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Bits of a character.
const WIDTH: u64 = 6;
/// The character of six taken addresses.
const FULL: u8 = b'/';
/// Characters that are looked at together.
const STRIDE: usize = 16;

/// A bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bitmap {
    text: Vec<u8>,
    bits: u64,
}

/// Why a text is no bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotBase64;

/// The value of each character, `u8::MAX` for those outside of the alphabet.
const VALUES: [u8; 256] = values();

const fn values() -> [u8; 256] {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        #[expect(clippy::cast_possible_truncation, reason = "less than 64")]
        let small = value as u8;
        values[ALPHABET[value] as usize] = small;
        value += 1;
    }
    values
}

impl Bitmap {
    /// The bitmap of a subnet of `addresses`, of which the first and the last are taken.
    ///
    /// `addresses` is from 1 to [`CAPACITY`].
    pub(crate) fn fresh(addresses: u64) -> Bitmap {
        let bytes = addresses.div_ceil(8);
        let mut text = vec![b'A'; usize::try_from(bytes.div_ceil(3) * 4).unwrap_or_default()];
        let padding = usize::try_from((3 - bytes % 3) % 3).unwrap_or_default();
        let end = text.len() - padding;
        text.iter_mut().skip(end).for_each(|c| *c = b'=');
        let mut bitmap = Bitmap {
            text,
            bits: bytes * 8,
        };
        bitmap.set(0);
        bitmap.set(addresses - 1);
        bitmap
    }

    /// Reads a bitmap. Its length is that of whole bytes: a /30 has 8 bits.
    pub(crate) fn parse(text: String) -> Result<Bitmap, NotBase64> {
        let text = text.into_bytes();
        let padding = text.iter().rev().take_while(|c| **c == b'=').count();
        let (digits, _) = text.split_at(text.len() - padding);
        // Every character is looked at, in a loop without a way out: that is what a compiler makes fast.
        let strangers = digits.iter().fold(0, |found, c| {
            found | (VALUES.get(usize::from(*c)).copied().unwrap_or(u8::MAX) & 0x80)
        });
        if strangers != 0 || padding > 2 || !text.len().is_multiple_of(4) {
            return Err(NotBase64);
        }
        let bits = (text.len() / 4 * 3 - padding) as u64 * 8;
        Ok(Bitmap { text, bits })
    }

    /// The number of bits, a multiple of eight.
    pub(crate) fn bits(&self) -> u64 {
        self.bits
    }

    /// Whether the bit is set; bits behind the end are.
    pub(crate) fn is_set(&self, bit: u64) -> bool {
        bit >= self.bits || self.value(bit / WIDTH) & mask(bit) != 0
    }

    /// Sets a bit. Nothing behind the end is changed, here and below.
    pub(crate) fn set(&mut self, bit: u64) {
        self.change(bit, |value| value | mask(bit));
    }

    /// Clears a bit.
    pub(crate) fn clear(&mut self, bit: u64) {
        self.change(bit, |value| value & !mask(bit));
    }

    /// The first bit of the range that is not set.
    pub(crate) fn first_clear(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let (mut bit, last) = (
            *range.start(),
            (*range.end()).min(self.bits.checked_sub(1)?),
        );
        while bit <= last {
            if !self.is_set(bit) {
                return Some(bit);
            }
            bit += 1;
            if bit % WIDTH == 0 {
                bit = self.skip_full(bit / WIDTH) * WIDTH;
            }
        }
        None
    }

    /// The text for the object.
    pub(crate) fn into_text(self) -> String {
        String::from_utf8(self.text).unwrap_or_default()
    }

    /// The first character from `from` on that is not [`FULL`].
    fn skip_full(&self, from: u64) -> u64 {
        let rest = usize::try_from(from)
            .ok()
            .and_then(|at| self.text.get(at..));
        let rest = rest.unwrap_or_default();
        let strides = rest.chunks_exact(STRIDE);
        let full = strides
            .take_while(|stride| *stride == [FULL; STRIDE])
            .count()
            * STRIDE;
        let tail = rest.iter().skip(full);
        from + (full + tail.take_while(|c| **c == FULL).count()) as u64
    }

    fn value(&self, character: u64) -> u8 {
        let at = usize::try_from(character).unwrap_or(usize::MAX);
        let character = self.text.get(at).copied().unwrap_or_default();
        VALUES
            .get(usize::from(character))
            .copied()
            .unwrap_or_default()
    }

    fn change(&mut self, bit: u64, change: impl Fn(u8) -> u8) {
        if bit >= self.bits {
            return;
        }
        let value = change(self.value(bit / WIDTH));
        let at = usize::try_from(bit / WIDTH).unwrap_or(usize::MAX);
        if let (Some(place), Some(character)) =
            (self.text.get_mut(at), ALPHABET.get(usize::from(value)))
        {
            *place = *character;
        }
    }
}

/// The bit within its character.
fn mask(bit: u64) -> u8 {
    0b10_0000 >> (bit % WIDTH)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fresh(prefix: u32) -> String {
        Bitmap::fresh(1 << (32 - prefix)).into_text()
    }

    #[test]
    fn fresh_bitmaps_are_those_of_the_webhook() {
        for (prefix, text) in [
            (24, "gAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE="),
            (25, "gAAAAAAAAAAAAAAAAAAAAQ=="),
            (26, "gAAAAAAAAAE="),
            (27, "gAAAAQ=="),
            (28, "gAE="),
            (29, "gQ=="),
            (30, "kA=="),
            (31, "wA=="),
            (32, "gA=="),
        ] {
            assert_eq!(fresh(prefix), text, "/{prefix}");
        }
        for (prefix, characters) in [(20, 684), (16, 10_924), (9, 1_398_104)] {
            assert_eq!(fresh(prefix).len(), characters, "/{prefix}");
        }
        assert_eq!(Bitmap::fresh(CAPACITY).bits(), CAPACITY);
    }

    /// `bitarray` of the original: eight bits, of which 0, 4 and 7 are set.
    #[test]
    fn eight_bits() {
        let mut bitmap = Bitmap::parse("AA==".into()).unwrap();
        assert_eq!(bitmap.bits(), 8);
        for bit in [0, 4, 7] {
            bitmap.set(bit);
        }
        assert_eq!(bitmap.clone().into_text(), "iQ==", "0b1000_1001");
        let set: Vec<u64> = (0..9).filter(|bit| bitmap.is_set(*bit)).collect();
        assert_eq!(set, [0, 4, 7, 8], "what is behind the end can't be taken");
        bitmap.clear(4);
        bitmap.set(8);
        assert_eq!(bitmap.into_text(), "gQ==");
    }

    #[test]
    fn the_bitmap_of_the_example_network() {
        let bitmap = Bitmap::parse("gBCAAQ==".into()).unwrap();
        let set: Vec<u64> = (0..32).filter(|bit| bitmap.is_set(*bit)).collect();
        assert_eq!(set, [0, 11, 16, 31]);
    }

    #[test]
    fn what_is_no_base64() {
        for text in [
            "A", "AAA", "A===", "====", "AA=A", "A-==", "AA\n=", "é===", "AAAA====",
        ] {
            assert_eq!(Bitmap::parse(text.into()), Err(NotBase64), "{text:?}");
        }
        assert_eq!(Bitmap::parse(String::new()).unwrap().bits(), 0);
        assert_eq!(
            Bitmap::parse(String::new()).unwrap().first_clear(0..=9),
            None
        );
    }

    /// The text, decoded bit by bit.
    fn decode(text: &str) -> Vec<bool> {
        let digits = text.trim_end_matches('=');
        let bits = digits.bytes().flat_map(|c| {
            let value = ALPHABET.iter().position(|a| *a == c).unwrap();
            (0..6).map(move |bit| value >> (5 - bit) & 1 == 1)
        });
        bits.take(digits.len() * 6 / 8 * 8).collect()
    }

    proptest! {
        #[test]
        fn like_a_list_of_booleans(
            addresses in 1_u64..700,
            changes in prop::collection::vec((any::<bool>(), 0_u64..760), 0..400),
            (from, to) in (0_u64..760, 0_u64..760),
        ) {
            let mut bitmap = Bitmap::fresh(addresses);
            let mut model = decode(&bitmap.clone().into_text());
            prop_assert_eq!(model.len() as u64, addresses.div_ceil(8) * 8);
            for (set, bit) in changes {
                if set { bitmap.set(bit) } else { bitmap.clear(bit) }
                if let Some(place) = model.get_mut(bit as usize) {
                    *place = set;
                }
            }
            let text = bitmap.clone().into_text();
            prop_assert_eq!(&decode(&text), &model);
            prop_assert_eq!(&Bitmap::parse(text).unwrap(), &bitmap);
            let first = (from..=to).find(|bit| model.get(*bit as usize) == Some(&false));
            prop_assert_eq!(bitmap.first_clear(from..=to), first);
        }

        #[test]
        fn full_stretches_are_skipped(full in 0_u64..5000, start in 0_u64..5000) {
            let mut bitmap = Bitmap::fresh(8192);
            (0..full).for_each(|bit| bitmap.set(bit));
            let first = start.max(full).max(1);
            prop_assert_eq!(bitmap.first_clear(start..=8190), Some(first));
        }
    }
}
