//! Requests that went wrong on the way: structure-aware mutations of a valid configuration, the same for the same seed.

use serde_json::{Map, Value, json};

/// A generator of numbers that gives the same ones every time (xorshift64*).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Starts the series that belongs to `seed`.
    pub fn new(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    /// A number below `n`, which is not 0.
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap_or_default() % n
    }
}

/// `count` requests made out of `base`: one to three changes each, to its members or to its bytes.
pub fn mutations(base: &Value, seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut dice = Dice::new(seed);
    let mutated = |_| {
        let mut request = base.clone();
        for _ in 0..=dice.below(3) {
            change_a_member(&mut request, &mut dice);
        }
        let mut bytes = request.to_string().into_bytes();
        if dice.below(5) == 0 {
            change_bytes(&mut bytes, &mut dice);
        }
        bytes
    };
    (0..count).map(mutated).collect()
}

/// Goes down to a member chosen by the dice and replaces, removes, renames, doubles or moves it.
fn change_a_member(value: &mut Value, dice: &mut Dice) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let key = members.keys().nth(dice.below(members.len())).cloned();
            let Some(key) = key else { return };
            let nested = members
                .get(&key)
                .is_some_and(|v| v.is_object() || v.is_array());
            if nested && dice.below(3) > 0 {
                if let Some(inner) = members.get_mut(&key) {
                    change_a_member(inner, dice);
                }
                return;
            }
            change_object(members, key, dice);
        }
        Value::Array(items) if !items.is_empty() => {
            let index = dice.below(items.len());
            match dice.below(4) {
                0 => drop(items.remove(index)),
                1 => items.push(odd_value(dice)),
                2 => items.extend_from_within(..),
                _ => change_a_member(&mut items[index], dice),
            }
        }
        other => *other = odd_value(dice),
    }
}

fn change_object(members: &mut Map<String, Value>, key: String, dice: &mut Dice) {
    match dice.below(6) {
        0 => drop(members.remove(&key)),
        1 => {
            let value = members.remove(&key).unwrap_or_default();
            members.insert(key.to_uppercase(), value);
        }
        2 => {
            let value = members.remove(&key).unwrap_or_default();
            members.insert(key.clone(), json!([value]));
        }
        3 => {
            members.insert(format!("{key}\u{0}x"), odd_value(dice));
        }
        _ => {
            members.insert(key, odd_value(dice));
        }
    }
}

/// Values that have broken parsers: wrong types, limits of numbers, addresses and names that are nearly right.
fn odd_value(dice: &mut Dice) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e300),
        json!(""),
        json!(" "),
        json!("\u{0}"),
        json!("../../../../tmp/x"),
        json!("x".repeat(5000)),
        json!("eth%d"),
        json!("0.0.0.0/0"),
        json!("255.255.255.255/32"),
        json!("10.0.0.0/8"),
        json!("::/0"),
        json!("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"),
        json!("fd00::/64"),
        json!("::ffff:10.1.2.3/120"),
        json!("fe80::1%eth0"),
        json!("010.1.2.3"),
        json!("10.1.2.3/-1"),
        json!("ff:ff:ff:ff:ff:ff"),
        json!([]),
        json!([null]),
        json!([[]]),
        json!([[null]]),
        json!([[{}]]),
        json!({}),
        json!({"": null}),
        json!({"type": null}),
        json!("1.0.0"),
        json!("9.9.9"),
        json!("host-local"),
        json!("é\u{202e}"),
    ];
    let chosen = dice.below(values.len());
    values.into_iter().nth(chosen).unwrap_or_default()
}

/// Cuts off, flips, doubles or inserts bytes.
fn change_bytes(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let place = dice.below(bytes.len());
    match dice.below(5) {
        0 => bytes.truncate(place),
        1 => bytes[place] ^= 1 << dice.below(8),
        2 => bytes.insert(place, 0xff),
        3 => bytes.extend_from_slice(b"}"),
        _ => bytes.extend_from_within(..),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_requests() {
        let base = json!({"name": "n", "ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}]]}});
        let (one, two) = (mutations(&base, 7, 300), mutations(&base, 7, 300));
        assert_eq!(one, two);
        assert_ne!(one, mutations(&base, 8, 300));
        let valid = one
            .iter()
            .filter(|r| serde_json::from_slice::<Value>(r).is_ok());
        assert!(valid.count() > 200, "most get past the JSON reader");
        let distinct: std::collections::HashSet<_> = one.iter().collect();
        assert!(
            distinct.len() > 150,
            "{} different requests",
            distinct.len()
        );
    }
}
