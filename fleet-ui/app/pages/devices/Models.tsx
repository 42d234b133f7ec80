/** The models of a device: what is wanted, what answers, and where the way from one to the other stands. */
import { Link } from "@tanstack/react-router";
import type { Schemas } from "~/api/client";
import { text } from "~/text";
import { Name } from "~/ui/Name";
import { Empty, Section } from "~/ui/Section";
import { StateBadge, type Tone } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";

const words = text.devices;

export const MODEL_TONES: Record<Schemas["ModelState"], Tone> = {
  pending: "quiet", waiting: "warn", downloading: "busy", verifying: "busy", loading: "busy", testing: "busy",
  trial: "busy", watching: "busy", ready: "good", failed: "bad", rolled_back: "bad",
};

export function Models({ device }: { device: Schemas["DeviceDetail"] }) {
  const models = Object.entries(device.models);
  const version = (n: number | null | undefined) => (n == null ? text.ui.nothing : String(n));
  if (models.length === 0) {
    return <Section title={words.tabs.models}><Empty title={words.noModels} lead={words.noModelsLead} command={`aidos deploy digits@1 --to ${firstLabel(device)}`} /></Section>;
  }
  return (
    <Section title={words.tabs.models}>
      <div className="scroll-x">
        <table className="plain">
          <thead><tr><th>{words.model}</th><th className="end">{words.wanted}</th><th className="end">{words.active}</th><th className="end">{words.previous}</th><th>{words.state}</th><th>{words.engine}</th><th>{words.since}</th></tr></thead>
          <tbody>
            {models.map(([name, model]) => (
              <tr key={name}>
                <td><Link to="/models/$model" params={{ model: name }}><Name>{name}</Name></Link></td>
                <td className="end nums">{version(model.desired_version)}</td>
                <td className="end nums">{version(model.active_version)}</td>
                <td className="end nums">{version(model.previous_version)}</td>
                <td>
                  <StateBadge tone={MODEL_TONES[model.state]}>{words.modelStates[model.state]}</StateBadge>
                  {model.error && <div className="dim wrap"><bdi>{model.error}</bdi></div>}
                </td>
                <td>{model.engine || text.ui.nothing}</td>
                <td><TimeAgo at={model.since} /></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Section>
  );
}

function firstLabel({ labels }: Schemas["DeviceDetail"]): string {
  const [first] = Object.entries(labels);
  return first ? `${first[0]}=${first[1]}` : "site=lab";
}
