//! The topics of the MQTT link, and what a device may do with them. Pure.
//!
//! A device publishes to its own `up` and subscribes to its own `down`: nothing else exists for it.

use aidos_protocol::DeviceId;

/// Every device's `up`, for the plane.
pub(super) const ALL_UP: &str = "d/+/up";

/// Where `device` publishes.
pub(super) fn up(device: DeviceId) -> String {
    format!("d/{device}/up")
}

/// Where `device` listens.
pub(super) fn down(device: DeviceId) -> String {
    format!("d/{device}/down")
}

/// The device whose `up` this is.
pub(super) fn device_of_up(topic: &str) -> Option<DeviceId> {
    topic.strip_prefix("d/")?.strip_suffix("/up")?.parse().ok()
}

/// Whether `device` may subscribe to `filter`: its `down`, alone or with what is below.
pub(super) fn may_subscribe(device: DeviceId, filter: &str) -> bool {
    let down = down(device);
    filter == down || filter.strip_prefix(down.as_str()) == Some("/#")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_device_subscribes_to_nothing_but_its_own() {
        let (own, other) = (DeviceId::new(1), DeviceId::new(2));
        assert!(may_subscribe(own, &down(own)) && may_subscribe(own, &format!("{}/#", down(own))));
        let denied = [
            "#".to_owned(),
            "+/+/+".into(),
            "d/+/down".into(),
            "d/#".into(),
            "$SYS/#".into(),
            down(other),
            up(own),
            format!("d/{own}/#"),
            format!("d/{own}/+"),
            format!("$share/g/{}", down(own)),
            format!("{}/", down(own)),
            format!("{}#", down(own)),
            format!("{}/##", down(own)),
            format!("/{}", down(own)),
            down(own).to_uppercase(),
        ];
        assert_eq!(denied.iter().filter(|filter| may_subscribe(own, filter)).collect::<Vec<_>>(), Vec::<&String>::new());
    }

    #[test]
    fn an_up_topic_names_its_device() {
        let device = DeviceId::new(1);
        assert_eq!(device_of_up(&up(device)), Some(device));
        for other in ["d//up", "d/+/up", &down(device), "up", &format!("x/{}", up(device))] {
            assert_eq!(device_of_up(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_other_text_is_allowed(filter in "[d/+#$a-z0-9_]{0,60}") {
            prop_assert!(!may_subscribe(DeviceId::new(1), &filter));
        }
    }
}
