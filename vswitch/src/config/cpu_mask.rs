//! Which CPUs workers run on: `Open_vSwitch other_config:pmd-cpu-mask`, as in Open vSwitch. Pure.

use super::Refusal;

/// The largest CPU number that Linux is built for, and one.
const MOST: usize = 8192;

/// The CPUs of a hexadecimal mask, with or without `0x`; bit n is CPU n.
pub(super) fn read(mask: &str) -> Result<Vec<usize>, Refusal> {
    let digits = mask.strip_prefix("0x").or(mask.strip_prefix("0X")).unwrap_or(mask);
    let wrong = |what: &str| {
        Err(format!(
            "pmd-cpu-mask={mask} {what}; give a hexadecimal mask with a bit for each CPU, such as 0x3 for CPUs 0 and 1"
        ))
    };
    let mut cpus = Vec::new();
    for (nibble, digit) in digits.chars().rev().enumerate() {
        let Some(bits) = digit.to_digit(16) else { return wrong("is no hexadecimal number") };
        cpus.extend((0..4).filter(|bit| bits >> bit & 1 != 0).map(|bit| 4 * nibble + bit));
    }
    match cpus.last() {
        None => wrong("names no CPU"),
        Some(&last) if last >= MOST => wrong("names CPUs that Linux cannot have"),
        Some(_) => Ok(cpus),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_a_bit_for_each_cpu() {
        for (mask, cpus) in [
            ("0x1", &[0][..]),
            ("3", &[0, 1]),
            ("0XA0", &[5, 7]),
            ("0x010000000000000000", &[64]),
            ("f", &[0, 1, 2, 3]),
        ] {
            assert_eq!(read(mask).unwrap(), cpus, "{mask}");
        }
        for (mask, what) in [
            ("0x0", "names no CPU"),
            ("", "names no CPU"),
            ("0x", "names no CPU"),
            ("0xg", "is no hex"),
            ("-1", "is no hex"),
        ] {
            let told = read(mask).unwrap_err();
            assert!(told.starts_with(&format!("pmd-cpu-mask={mask} {what}")) && told.contains("0x3"), "{told}");
        }
        assert!(read(&format!("1{}", "0".repeat(2048))).unwrap_err().contains("cannot have"));
    }
}
