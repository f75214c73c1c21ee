//! Fields in a row, each with its length before it, so that no two lists of fields have the same bytes. What is signed,
//! sealed or derived from has this form.

/// Returns the fields, each after its length as 32 bits, the most significant byte first.
///
/// # Panics
/// If a field is 4 GiB or longer.
pub fn join(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(fields.iter().map(|field| field.len() + 4).sum());
    for field in fields {
        let length = u32::try_from(field.len()).expect("a field shorter than 4 GiB");
        bytes.extend(length.to_be_bytes());
        bytes.extend(*field);
    }
    bytes
}

/// Returns the fields of bytes that have exactly so many.
pub fn split<const N: usize>(mut bytes: &[u8]) -> Option<[&[u8]; N]> {
    let mut fields = [&[][..]; N];
    for field in &mut fields {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        (*field, bytes) = rest.split_at_checked(length)?;
    }
    bytes.is_empty().then_some(fields)
}
