/** The models of a device: what is wanted, what answers, what stands beside it, and where the way from one to the other stands. */
import { Link } from "@tanstack/react-router";
import { api, type Schemas } from "~/api/client";
import { text } from "~/text";
import { Name } from "~/ui/Name";
import { Empty, Section } from "~/ui/Section";
import { StateBadge, type Tone } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";
import { besideOf } from "./besides";

const words = text.devices;

export const MODEL_TONES: Record<Schemas["ModelState"], Tone> = {
  pending: "quiet", waiting: "warn", downloading: "busy", verifying: "busy", loading: "busy", testing: "busy",
  trial: "busy", watching: "busy", ready: "good", failed: "bad", rolled_back: "bad",
};

export function Models({ device }: { device: Schemas["DeviceDetail"] }) {
  const models = Object.entries(device.models);
  // Which part a candidate takes stands in what is wanted of the device.
  const twin = api.useQuery("get", "/api/v1/devices/{device}/twin", { params: { path: { device: device.id } } }, { enabled: models.some(([, { state }]) => state === "trial") });
  const version = (n: number | null | undefined) => (n == null ? text.ui.nothing : String(n));
  if (models.length === 0) {
    return <Section title={words.tabs.models}><Empty title={words.noModels} lead={words.noModelsLead} command={`aidos deploy digits@1 --to ${firstLabel(device)}`} /></Section>;
  }
  const rows = models.map(([name, model]) => ({ name, model, ...besideOf(model, twin.data?.intent.models[name]?.update?.experiment) }));
  return (
    <Section title={words.tabs.models}>
      <div className="scroll-x">
        <table className="plain">
          <thead><tr><th>{words.model}</th><th className="end">{words.wanted}</th><th className="end">{words.active}</th><th>{words.candidate}</th><th className="end">{words.previous}</th><th>{words.state}</th><th>{words.engine}</th><th>{words.since}</th></tr></thead>
          <tbody>
            {rows.map(({ name, model, previous, candidate }) => (
              <tr key={name}>
                <td><Link to="/models/$model" params={{ model: name }}><Name>{name}</Name></Link></td>
                <td className="end nums">{version(model.desired_version)}</td>
                <td className="end nums">{version(model.active_version)}</td>
                <td className="nums">{candidate ? <>{candidate.version} <span className="dim"><bdi>{candidate.role}</bdi></span></> : text.ui.nothing}</td>
                <td className="end nums">{version(previous)}</td>
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
