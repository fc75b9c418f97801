//! Numbers of users: stable, whatever happens to the others in the list.

use super::User;
use sha2::{Digest, Sha256};
use std::ops::RangeInclusive;

/// Numbers that follow from names: the upper part of Debian's range for people (Debian Policy 9.2.2, 1000 to 59999). The lower part is
/// left to `users[].uid`.
const DERIVED: RangeInclusive<u32> = 10000..=59999;

impl User {
    /// The user's uid and gid: `uid`, or the number that follows from the name alone. So it is the same on every node and after every
    /// change of the list, and nothing has to be remembered. That two names have the same number is refused by
    /// [`super::parse`]; one of them gets a `uid` then.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.uid.unwrap_or_else(|| derived(&self.name))
    }
}

fn derived(name: &str) -> u32 {
    let digest = Sha256::digest(name.as_bytes());
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let count = u64::from(DERIVED.end() - DERIVED.start() + 1);
    DERIVED.start() + u32::try_from(number % count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{DERIVED, derived};
    use proptest::prelude::proptest;

    /// Changed numbers would take the files of people on every node.
    #[test]
    fn the_number_of_a_name_is_for_ever() {
        assert_eq!(["alice", "ops"].map(derived), [30207, 48841]);
    }

    proptest! {
        #[test]
        fn numbers_are_for_people(name in "[a-z][a-z0-9_-]{0,31}") {
            assert!(DERIVED.contains(&derived(&name)));
        }
    }
}
