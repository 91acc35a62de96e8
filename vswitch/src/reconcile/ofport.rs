//! OpenFlow port numbers: unique on a bridge, and kept as long as anyhow possible, because clients remember them. Pure.

use std::collections::BTreeSet;

/// The number of a bridge's own port (`OFPP_LOCAL`, OpenFlow 1.0 §5.2.1).
pub const OWN: u16 = 65_534;
/// The largest number of any other port, as in Open vSwitch.
pub const MAX: u16 = 65_279;

/// What one interface of a bridge has to say about its number.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Claim {
    /// It is the bridge's own port.
    pub own: bool,
    /// `ofport_request`.
    pub request: Option<u16>,
    /// The number it had.
    pub last: Option<u16>,
    /// Whether it works; if not, its numbers are kept free for it, but it gets no new one.
    pub works: bool,
}

/// The numbers of a bridge's interfaces, in the order of `claims`. A request goes before a number merely had; of two
/// equal requests the holder's goes first, then the earlier one.
#[must_use]
pub fn assign(claims: &[Claim]) -> Vec<Option<u16>> {
    let mut taken = BTreeSet::new();
    let mut numbers: Vec<Option<u16>> = claims.iter().map(|c| c.own.then_some(OWN)).collect();
    let usable = |n: &u16| (1..=MAX).contains(n);
    let mut round = |pick: &dyn Fn(&Claim) -> Option<u16>| {
        for (number, claim) in numbers.iter_mut().zip(claims) {
            if number.is_none() {
                *number = pick(claim).filter(usable).filter(|&n| taken.insert(n));
            }
        }
    };
    round(&|c| c.request.filter(|&r| c.last == Some(r)));
    round(&|c| c.request);
    round(&|c| c.last);
    let mut free = (1..=MAX).filter(|n| !taken.contains(n));
    for (number, claim) in numbers.iter_mut().zip(claims) {
        if number.is_none() && claim.works {
            *number = free.next();
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(request: Option<u16>, last: Option<u16>) -> Claim {
        Claim { own: false, request, last, works: true }
    }

    #[test]
    fn numbers() {
        let own = Claim { own: true, works: true, ..Claim::default() };
        let gone = Claim { works: false, ..claim(None, Some(2)) };
        for (claims, numbers) in [
            (vec![own, claim(None, None), claim(None, None)], vec![Some(OWN), Some(1), Some(2)]),
            // What one had, it keeps; the new one fills the gap.
            (vec![claim(None, Some(1)), claim(None, None), claim(None, Some(3))], vec![Some(1), Some(2), Some(3)]),
            // A request is honoured, even against one who merely had the number.
            (vec![claim(None, Some(5)), claim(Some(5), Some(1))], vec![Some(1), Some(5)]),
            // Two requests for one number: the holder's first, else the earlier one.
            (vec![claim(Some(5), None), claim(Some(5), Some(5))], vec![Some(1), Some(5)]),
            (vec![claim(Some(5), None), claim(Some(5), None)], vec![Some(5), Some(1)]),
            // A port in error keeps its number free, and gets none if it had none.
            (vec![gone, claim(None, None), claim(None, None)], vec![Some(2), Some(1), Some(3)]),
            (vec![Claim { last: None, ..gone }, claim(None, None)], vec![None, Some(1)]),
            // Numbers out of range are not taken over.
            (vec![claim(None, Some(65_280)), claim(None, Some(0))], vec![Some(1), Some(2)]),
        ] {
            assert_eq!(assign(&claims), numbers, "{claims:?}");
        }
    }

    #[test]
    fn more_ports_than_numbers_leaves_some_without() {
        let claims = vec![claim(None, None); usize::from(MAX) + 1];
        let numbers = assign(&claims);
        assert_eq!(numbers[usize::from(MAX) - 1], Some(MAX));
        assert_eq!(numbers.last(), Some(&None));
    }
}
