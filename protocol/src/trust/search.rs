//! Who vouches for a target path: the search through the delegations, in the specification's order (5.6.7).
//!
//! Each role is verified for the role that led to it, also when it is at hand from an earlier search by another way.

use super::refresh::{self, Answer, Want};
use super::{MAX_DELEGATIONS, Target, Targets, TrustError, Trusted};
use crate::time::Micros;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A target and the role that vouches for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Which role.
    pub role: String,
    /// Its description.
    pub target: Target,
}

/// What the search needs or has come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Fetch this role and give it to [`Search::take`].
    Fetch(Want),
    /// The end: `None` when no role that may speak for the path names it.
    Done(Option<Found>),
}

/// The search for one path. The metadata must have been refreshed.
#[derive(Debug, Clone)]
pub struct Search {
    path: String,
    /// To be asked, the next one last: a role and who delegates to it.
    todo: Vec<(String, Arc<Targets>)>,
    visited: BTreeSet<String>,
    begun: bool,
    found: Option<Found>,
}

impl Search {
    /// For that path.
    pub fn new(path: &str) -> Self {
        Self { path: path.into(), todo: Vec::new(), visited: BTreeSet::new(), begun: false, found: None }
    }

    /// Goes as far as what is at hand leads.
    pub fn step(&mut self, trusted: &Trusted, now: Micros) -> Result<Step, TrustError> {
        if !self.begun {
            if !trusted.has_targets(now) {
                return Err(TrustError::TooEarly { lacks: "current targets" });
            }
            let top = trusted.targets().ok_or(TrustError::TooEarly { lacks: "targets" })?;
            self.begun = true;
            self.visit("targets", Arc::new(top.clone()));
        }
        while self.found.is_none() {
            let Some((name, delegator)) = self.todo.last().cloned() else { break };
            if self.visited.contains(&name) {
                self.todo.pop();
                continue;
            }
            // The top role is not one of them.
            if self.visited.len() > MAX_DELEGATIONS {
                return Err(TrustError::TooManyDelegations { path: self.path.clone(), max: MAX_DELEGATIONS });
            }
            match trusted.kept_delegated(&name, &delegator, now) {
                Some(targets) => {
                    self.todo.pop();
                    self.visit(&name, Arc::new(targets));
                }
                None => return Ok(Step::Fetch(refresh::role(&name, trusted, now)?)),
            }
        }
        Ok(Step::Done(self.found.clone()))
    }

    /// Takes the answer to [`Step::Fetch`]. On success the store keeps [`Trusted::files`] before the next step.
    pub fn take(&mut self, trusted: &mut Trusted, answer: Answer<'_>, now: Micros) -> Result<(), TrustError> {
        let Some((name, delegator)) = self.todo.pop() else { return Err(TrustError::TooEarly { lacks: "question" }) };
        let Answer::Bytes(bytes) = answer else { return Err(TrustError::Missing { file: format!("{name}.json") }) };
        let targets = trusted.update_delegated(&name, &delegator, bytes, now)?;
        self.visit(&name, Arc::new(targets));
        Ok(())
    }

    fn visit(&mut self, name: &str, targets: Arc<Targets>) {
        self.visited.insert(name.into());
        if let Some(target) = targets.targets.get(&self.path) {
            self.found = Some(Found { role: name.into(), target: target.clone() });
            return;
        }
        let mut next = Vec::new();
        for role in targets.delegations.iter().flat_map(|d| &d.roles).filter(|role| role.covers(&self.path)) {
            next.push((role.name.clone(), targets.clone()));
            if role.terminating {
                // Nobody after this one is asked, neither here nor further up.
                self.todo.clear();
                break;
            }
        }
        self.todo.extend(next.into_iter().rev());
    }
}
