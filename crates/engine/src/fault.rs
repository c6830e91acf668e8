//! Bugs that can be planted, to prove that the simulator finds them.
//!
//! Without the feature `__faults` there are none, and every check of one is a constant.

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Now and then a publication is left out of a delivery.
    SkippedOffset,
    /// A publication is acknowledged when it goes to the store, not when it comes back.
    EarlyAcknowledgement,
    /// A member that waits for its outbox to drain is not resumed.
    LostWakeUp,
    /// Mail to a connection that has ended reaches the next one in its slot.
    StaleGeneration,
    /// A session's older connection is neither closed nor outranked by a newer one.
    DoubleResume,
    /// A second publication with a key does not wait for the first, which is in flight.
    KeyRace,
    /// A connection whose outbox is full is still read.
    LostPause,
    /// A member that left is still delivered to.
    DeliveryAfterLeave,
    /// What was compressed once for many is sent to members that keep their window.
    SharedForAll,
    /// A member is not told that its position changed.
    SilentGap,
    /// Whoever joins with a position is told that all that follows it comes.
    FalseRecovery,
    /// A ticket is taken although what it stands on was revoked.
    VoidTicket,
}

/// All of them.
pub const ALL: [Fault; 12] = [
    Fault::SkippedOffset,
    Fault::EarlyAcknowledgement,
    Fault::LostWakeUp,
    Fault::StaleGeneration,
    Fault::DoubleResume,
    Fault::KeyRace,
    Fault::LostPause,
    Fault::DeliveryAfterLeave,
    Fault::SharedForAll,
    Fault::SilentGap,
    Fault::FalseRecovery,
    Fault::VoidTicket,
];

/// The fault that a shard has, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planted {
    #[cfg(feature = "__faults")]
    fault: Option<Fault>,
}

impl Planted {
    #[cfg(feature = "__faults")]
    pub(crate) fn plant(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    #[cfg(feature = "__faults")]
    pub(crate) fn is(self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    #[cfg(not(feature = "__faults"))]
    pub(crate) const fn is(self, _: Fault) -> bool {
        false
    }
}
