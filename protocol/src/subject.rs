//! What of a device a rollout changes: one of its models, the agent itself, or the agent's settings. One text names each, in
//! references (`digits@2`, `agent.release@1.4.0`, `agent.config@3`), in the paths of health reports, and in the database; no model
//! can have a name that means the agent.

use crate::id::NameError;
use crate::twin::{AGENT_CONFIG, AGENT_RELEASE};
use crate::{ModelName, twin};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What of a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Subject {
    /// A model.
    Model(ModelName),
    /// The agent: `agent.release`.
    Release,
    /// The agent's settings: `agent.config`.
    Settings,
}

impl Subject {
    /// As text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Model(name) => name.as_str(),
            Self::Release => AGENT_RELEASE,
            Self::Settings => AGENT_CONFIG,
        }
    }

    /// The model, if it is one.
    pub fn model(&self) -> Option<&ModelName> {
        match self {
            Self::Model(name) => Some(name),
            Self::Release | Self::Settings => None,
        }
    }
}

impl From<ModelName> for Subject {
    fn from(name: ModelName) -> Self {
        Self::Model(name)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Subject {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            AGENT_RELEASE => Ok(Self::Release),
            AGENT_CONFIG => Ok(Self::Settings),
            name => name.parse().map(Self::Model),
        }
    }
}

impl TryFrom<String> for Subject {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.to_string()
    }
}

impl utoipa::PartialSchema for Subject {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some(format!("A model's name, `{AGENT_RELEASE}`, or `{AGENT_CONFIG}`.")))
            .build()
            .into()
    }
}
impl utoipa::ToSchema for Subject {}

/// Whether `name` is kept for the agent and can name no model.
pub(crate) fn is_the_agents(name: &str) -> bool {
    name.starts_with(twin::release::RESERVED_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reads_back_what_it_wrote_and_no_model_is_the_agent() {
        for text in ["digits", "agent.release", "agent.config", "agent"] {
            let subject: Subject = text.parse().unwrap();
            assert_eq!(subject.to_string(), text);
            assert_eq!(serde_json::from_value::<Subject>(serde_json::json!(text)).unwrap(), subject);
        }
        assert_eq!("agent.release".parse(), Ok(Subject::Release));
        for text in ["agent.release", "agent.config", "agent.later"] {
            assert!(text.parse::<ModelName>().unwrap_err().to_string().contains("agent."), "{text}");
        }
        assert!("agent.later".parse::<Subject>().is_err());
    }
}
