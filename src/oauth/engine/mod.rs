//! The one folder that knows oxide-auth: its state machines, driven by our own executor.
//!
//! A machine fixes the order of steps: it asks (authenticate, recover, extend, issue), the flow
//! answers, and it releases a token only at the end of the right sequence of answers. It checks the
//! binding of code, client and redirect URI and the narrowing of scope. State, time, cryptography
//! and the words of errors are ours: a machine is told that everything expires in the far future,
//! since it would read a clock of its own.

mod access_token;
mod authorization;
mod client_credentials;
mod convert;
mod refresh;
mod resource;

pub(in crate::oauth) use access_token::{
    AccessTokenMachine, Challenge, CodeAnswer, CodeAsk, CodeRequest, RecoveredCode, VerifierCheck,
};
pub(in crate::oauth) use authorization::{
    AuthorizationAnswer, AuthorizationAsk, AuthorizationMachine, AuthorizationRequest,
};
pub(in crate::oauth) use client_credentials::{
    ClientCredentialsMachine, CredentialsAnswer, CredentialsAsk,
};
pub(in crate::oauth) use convert::NO_REDIRECT_URI;
pub(in crate::oauth) use refresh::{
    RecoveredRefresh, RefreshAnswer, RefreshAsk, RefreshMachine, RefreshRequest,
};
pub(crate) use resource::{Resource, ResourceAnswer, ResourceAsk, ResourceMachine};

use std::pin::Pin;

use crate::base::Secret;

/// A state machine, as our executor sees it.
pub(crate) trait Machine: Send {
    /// What it asks the flow for.
    type Ask: Send;
    /// What the flow answers.
    type Answer: Send;
    /// What it releases at its end.
    type Done: Send;

    /// The first question.
    fn start(&mut self) -> Result<StepOf<Self>, Refusal>;

    /// Takes an answer; asks on, or ends.
    fn advance(&mut self, answer: Self::Answer) -> Result<StepOf<Self>, Refusal>;
}

/// What a machine does next.
pub(crate) enum Step<A, D> {
    /// It asks.
    Ask(A),
    /// It has ended.
    Done(D),
}

/// The step of a machine.
pub(crate) type StepOf<M> = Step<<M as Machine>::Ask, <M as Machine>::Done>;

/// A flow: what answers a machine's questions.
pub(crate) trait Flow<M: Machine>: Send {
    /// How the flow fails; a machine's refusal is one way.
    type Error: From<Refusal>;

    /// Answers one question, or ends the flow.
    fn answer(
        &mut self,
        ask: M::Ask,
    ) -> impl Future<Output = Result<M::Answer, Self::Error>> + Send;
}

/// A machine being driven.
pub(crate) type Driving<'f, D, E> = Pin<Box<dyn Future<Output = Result<D, E>> + Send + 'f>>;

/// Drives `machine` to its end, `flow` answering. Nothing of the machine's own inputs and outputs
/// lives across an await, so that the future can move between threads; it is boxed, since the
/// compiler cannot see that through the lifetimes of a flow that borrows.
pub(crate) fn drive<'f, M: Machine + 'f, F: Flow<M>>(
    mut machine: M,
    flow: &'f mut F,
) -> Driving<'f, M::Done, F::Error> {
    Box::pin(async move {
        let mut step = machine.start()?;
        loop {
            step = match step {
                Step::Ask(ask) => machine.advance(flow.answer(ask).await?)?,
                Step::Done(done) => return Ok(done),
            }
        }
    })
}

/// Why a machine went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// RFC 6749 §5.2 and §4.1.2.1.
    InvalidRequest,
    /// RFC 6749 §5.2.
    InvalidClient,
    /// RFC 6749 §5.2.
    InvalidGrant,
    /// RFC 6749 §5.2.
    UnauthorizedClient,
    /// RFC 6749 §5.2.
    UnsupportedGrantType,
    /// RFC 6749 §4.1.2.1.
    UnsupportedResponseType,
    /// RFC 6749 §5.2.
    InvalidScope,
    /// Not to be answered at the client's redirect URI (RFC 6749 §4.1.2.1).
    Ignore,
    /// An answer out of order: a fault of ours.
    OutOfOrder,
}

/// The tokens that a flow hands to its machine, and that the machine releases.
pub(in crate::oauth) struct Tokens {
    /// The access token.
    pub(in crate::oauth) access: Secret<String>,
    /// The refresh token, if one was issued.
    pub(in crate::oauth) refresh: Option<Secret<String>>,
}
