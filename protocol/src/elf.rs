//! What a binary runs on, read from the first bytes of its ELF header.

/// Bytes that [`arch_of`] needs.
pub const HEADER_BYTES: usize = 20;

/// The architecture that an ELF binary is for, as [`crate::inventory::Inventory::arch`] names it. `None`: no ELF binary, or one
/// for a machine that this version has no name for.
pub fn arch_of(header: &[u8]) -> Option<&'static str> {
    let header: &[u8; HEADER_BYTES] = header.get(..HEADER_BYTES)?.try_into().ok()?;
    if !is_elf(header) {
        return None;
    }
    let machine = [header[18], header[19]];
    let machine = match header[5] {
        1 => u16::from_le_bytes(machine),
        2 => u16::from_be_bytes(machine),
        _ => return None,
    };
    let wide = header[4] == 2;
    Some(match (machine, wide) {
        (62, true) => "x86_64",
        (3, false) => "x86",
        (183, true) => "aarch64",
        (40, false) => "arm",
        (243, true) => "riscv64",
        (243, false) => "riscv32",
        (21, true) => "powerpc64",
        (22, true) => "s390x",
        (258, true) => "loongarch64",
        _ => return None,
    })
}

/// Whether the bytes begin an ELF file.
pub fn is_elf(header: &[u8]) -> bool {
    header.starts_with(b"\x7fELF")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u8, order: u8, machine: [u8; 2]) -> Vec<u8> {
        let mut header = vec![0; 64];
        header[..4].copy_from_slice(b"\x7fELF");
        (header[4], header[5]) = (class, order);
        header[18..20].copy_from_slice(&machine);
        header
    }

    #[test]
    fn the_machine_is_read_in_the_files_own_byte_order() {
        assert_eq!(arch_of(&header(2, 1, [62, 0])), Some("x86_64"));
        assert_eq!(arch_of(&header(2, 1, [183, 0])), Some("aarch64"));
        assert_eq!(arch_of(&header(1, 1, [40, 0])), Some("arm"));
        assert_eq!(arch_of(&header(2, 2, [0, 22])), Some("s390x"));
    }

    #[test]
    fn what_is_no_known_binary_has_no_architecture() {
        for bytes in [&b"#!/bin/sh\necho aidos-agent 1.0.0"[..], b"\x7fELF", &header(2, 3, [62, 0]), &header(2, 1, [9, 9])] {
            assert_eq!(arch_of(bytes), None);
        }
    }
}
