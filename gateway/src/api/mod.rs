//! The gateway's own calls on the data listener, as the gateway of the failed burn-in had them. `docs/gateway-api.md` lists where ours
//! answers otherwise, and why.

pub(crate) mod agents;
pub(crate) mod call;
pub(crate) mod chaos;
pub(crate) mod own;
pub(crate) mod policies;
