//! Who may do what: tokens that carry their rights under a signature, policies that grant, quotas that count.

pub(crate) mod decide;
pub(crate) mod manage;
pub(crate) mod policy;
pub(crate) mod quota;
pub(crate) mod token;
