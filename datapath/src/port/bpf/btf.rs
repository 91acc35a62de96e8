//! Finding a function of the kernel in its type information (BTF, Documentation/bpf/btf.rst), as a program must to call it.

/// Where the kernel tells its types.
pub const KERNEL: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const FUNCTION: u32 = 12;

/// The type number of the function `name` in this type information; `None` also where it cannot be understood.
#[must_use]
pub fn function(btf: &[u8], name: &str) -> Option<i32> {
    let word = |at: usize| Some(u32::from_ne_bytes(*btf.get(at..)?.first_chunk()?));
    if u16::from_ne_bytes(*btf.first_chunk()?) != MAGIC {
        return None;
    }
    let header = word(4)? as usize;
    let section = |offset: usize, len: usize| btf.get(header + offset..)?.get(..len);
    let types = section(word(8)? as usize, word(12)? as usize)?;
    let strings = section(word(16)? as usize, word(20)? as usize)?;
    let has_name = |at: usize| {
        strings.get(at..).and_then(|s| s.strip_prefix(name.as_bytes())).is_some_and(|rest| rest.first() == Some(&0))
    };
    let word = |at: usize| Some(u32::from_ne_bytes(*types.get(at..)?.first_chunk()?));
    let (mut at, mut id) = (0, 1);
    while at < types.len() {
        let (name_at, info) = (word(at)? as usize, word(at + 4)?);
        let kind = info >> 24 & 0x1f;
        if kind == FUNCTION && has_name(name_at) {
            return Some(id);
        }
        at += 12 + more(kind, (info & 0xffff) as usize)?;
        id += 1;
    }
    None
}

/// Bytes that follow the first twelve of a type of this kind with `n` members.
fn more(kind: u32, n: usize) -> Option<usize> {
    Some(match kind {
        1 | 14 | 17 => 4,          // integer, variable, declaration tag
        3 => 12,                   // array
        4 | 5 | 15 | 19 => 12 * n, // structure, union, section, 64-bit enumeration
        6 | 13 => 8 * n,           // enumeration, function's parameters
        2 | 7..=12 | 16 | 18 => 0, // pointer, forward, typedef, qualifiers, function, float, type tag
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_ne_bytes()).collect()
    }

    /// Two types before the function `f`: a structure with one member, an integer `ff`.
    fn btf() -> Vec<u8> {
        let strings = b"\0ff\0f\0";
        let types = words(&[0, 4 << 24 | 1, 4, 0, 2, 0, 1, 1 << 24, 4, 32, 4, 12 << 24, 0]);
        let mut btf = [MAGIC.to_ne_bytes(), [1, 0]].concat();
        btf.extend(words(&[24, 0, types.len() as u32, types.len() as u32, strings.len() as u32]));
        btf.extend(types);
        btf.extend(strings);
        btf
    }

    #[test]
    fn a_function_is_found_by_its_whole_name() {
        assert_eq!(function(&btf(), "f"), Some(3));
        assert_eq!([function(&btf(), "ff"), function(&btf(), "g"), function(&btf(), "")], [None; 3]);
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_no_answer() {
        let whole = btf();
        for len in 0..whole.len() {
            assert_eq!(function(&whole[..len], "f"), None, "{len}");
        }
        let mut unknown = btf();
        unknown[24 + 7] = 31;
        assert_eq!(function(&unknown, "f"), None);
    }
}
