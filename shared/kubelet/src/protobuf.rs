//! Reading protobuf's wire format, as much of it as kubelet's one answer needs.

/// One field of a message: its number and its value.
pub(super) enum Field<'a> {
    /// A string, bytes, or a message within.
    Bytes(u64, &'a [u8]),
    /// A number. None of those is of interest here.
    Number,
}

/// The fields of a message in the order they come.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| "its answer is no protobuf message".to_owned()))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<Field<'a>> {
        let key = self.varint()?;
        let (number, wire_type) = (key >> 3, key & 7);
        match wire_type {
            0 => self.varint().map(|_| Field::Number),
            1 => self.take(8).map(|_| Field::Number),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.take(length).map(|bytes| Field::Bytes(number, bytes))
            }
            5 => self.take(4).map(|_| Field::Number),
            _ => None,
        }
    }

    /// Seven bits in each byte, the lowest first; the eighth says that there are more.
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(message: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, String> {
        let mut found = Vec::new();
        for field in Fields(message) {
            if let Field::Bytes(number, bytes) = field? {
                found.push((number, bytes.to_vec()));
            }
        }
        Ok(found)
    }

    #[test]
    fn fields_are_found_and_others_passed_over() {
        let message = b"\x0a\x02hi\x10\x96\x01\x19........\x25....\x82\x01\x01x\x12\x00";
        let expected = vec![(1, b"hi".to_vec()), (16, b"x".to_vec()), (2, vec![])];
        assert_eq!(read(message).unwrap(), expected);
        assert!(read(b"").unwrap().is_empty());
        for bad in [
            &b"\x0a"[..],
            b"\x0a\x05hi",
            b"\x0b",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x19...",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_message_does_harm(message in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&message);
        }
    }
}
