//! The phases that a list of rollouts is narrowed to. What a rollout shows follows from its deployment and its course; the list must
//! never hold one that shows another phase than was asked for.

use super::store::Deployment;
use super::{DeploymentError, Deployments, phases_store, store};
use aidos_protocol::api::rollouts::RolloutPhase as Phase;
use aidos_protocol::{Subject, TenantId, time::Micros};
use serde::Deserialize;
use std::str::FromStr;

/// Some phases; none of them: any.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Phases(Vec<Phase>);

impl FromStr for Phases {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut phases = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let phase = match word {
                "running" => Phase::Running,
                "paused" => Phase::Paused,
                "finished" => Phase::Finished,
                "aborted" => Phase::Aborted,
                "superseded" => Phase::Superseded,
                _ => {
                    let word: String = word.chars().take(40).collect();
                    return Err(format!(
                        "`{word}` is no phase: write running, paused, finished, aborted or superseded, with commas between"
                    ));
                }
            };
            if !phases.contains(&phase) {
                phases.push(phase);
            }
        }
        Ok(Self(phases))
    }
}

impl TryFrom<String> for Phases {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Deployments {
    /// Deployments older than `before` whose rollouts show one of `phases`, newest first; of `subject` where given.
    pub(super) async fn in_phases(
        &self,
        tenant: TenantId,
        subject: Option<&Subject>,
        Phases(phases): &Phases,
        before: Micros,
        limit: u32,
    ) -> Result<Vec<Deployment>, DeploymentError> {
        Ok(match phases.as_slice() {
            [] => store::list(self.db.pool(), tenant, subject, None, before, limit).await?,
            phases => phases_store::list(self.db.pool(), tenant, subject, phases, before, limit).await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read_once_each_and_a_wrong_one_says_which_there_are() {
        assert_eq!("".parse(), Ok(Phases(vec![])));
        assert_eq!(" paused, running,,paused ".parse(), Ok(Phases(vec![Phase::Paused, Phase::Running])));
        let refused = "running,Paused".parse::<Phases>().unwrap_err();
        assert!(refused.contains("`Paused`") && refused.contains("aborted or superseded"), "{refused}");
    }
}
