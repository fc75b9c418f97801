//! What firmware gives out as a machine's identity, and is none: texts that makers of boards forgot to replace.

/// Texts that stand in the SMBIOS serial numbers and UUIDs of many machines, lower-case, without blanks and punctuation: what the
/// templates of firmware makers say, and what tools write for an empty field. A list of what was met in the field, not of all.
const PLACEHOLDERS: [&str; 26] = [
    "tobefilledbyoem",
    "tobefilledbyoemmore",
    "defaultstring",
    "notspecified",
    "notapplicable",
    "notavailable",
    "notpresent",
    "notsettable",
    "none",
    "na",
    "null",
    "empty",
    "unknown",
    "invalid",
    "oem",
    "serial",
    "serialnumber",
    "serialnum",
    "systemserial",
    "systemserialnumber",
    "systemserialnumb",
    "chassisserialnumber",
    "baseboardserialnumber",
    "sernum",
    "xxxxxxx",
    "03000200040005000006000700080009",
];

/// Whether a UUID or serial number is the machine's own.
#[must_use]
pub fn is_own(value: &str) -> bool {
    let plain: String =
        value.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    !(plain.is_empty() || PLACEHOLDERS.contains(&plain.as_str()) || is_one_digit(&plain) || counts(&plain))
}

/// `00000000-0000-…`, `ffffffff-…`, `xxxx`, `0`.
fn is_one_digit(plain: &str) -> bool {
    let mut bytes = plain.bytes();
    let first = bytes.next();
    matches!(first, Some(b'0' | b'f' | b'x' | b'1')) && bytes.all(|byte| Some(byte) == first)
}

/// `123456789`, `0123456789`, `0123456789abcdef`, `1234567890`, also several times over, as in a UUID.
fn counts(plain: &str) -> bool {
    const COUNT: &str = "0123456789abcdef0123456789abcdef0123456789abcdef";
    const DECIMAL: &str = "01234567890123456789012345678901234567890123456789";
    plain.len() >= 5
        && [0, 1]
            .iter()
            .any(|start| COUNT[*start..].starts_with(plain) || DECIMAL[*start..].starts_with(plain))
}

#[cfg(test)]
mod tests {
    use super::is_own;

    #[test]
    fn what_many_machines_have_is_nobodys() {
        for value in [
            "To Be Filled By O.E.M.",
            "to be filled by O.E.M",
            "Default string",
            "Not Specified",
            "System Serial Number",
            "0123456789",
            "123456789",
            "1234567890",
            "12345678",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "03000200-0400-0500-0006-000700080009",
            "01234567-89ab-cdef-0123-456789abcdef",
            "0",
            "N/A",
            "None",
            "..................",
        ] {
            assert!(!is_own(value), "{value}");
        }
        // Any letter over and over fills a field as well as dots do.
        assert!(!is_own(&"X".repeat(10)));
    }

    #[test]
    fn real_ones_are_taken() {
        for value in [
            "4c4c4544-0042-3510-8051-b4c04f303232",
            "J1234567",
            "5CD0123ABC",
            "VMware-42 0c 4d",
            "7",
            "10",
            "2345678",
        ] {
            assert!(is_own(value), "{value}");
        }
    }
}
