/** The agents themselves: their releases and the versions of their settings, each of which is rolled out as a model is. */
import { Skeleton, Text, VisuallyHidden } from "@mantine/core";
import { api } from "~/api/client";
import { session } from "~/api/session";
import { text } from "~/text";
import { ButtonLink } from "~/ui/ButtonLink";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { bytes } from "~/ui/format";
import { Name } from "~/ui/Name";
import { Empty, Section } from "~/ui/Section";
import { TimeAgo } from "~/ui/TimeAgo";

const words = text.settings.agents;

function RollOut({ subject }: { subject: string }) {
  if (!session.may("operator")) return null;
  return <ButtonLink size="compact-xs" variant="default" to="/rollouts/new" search={{ subject }}>{text.models.rollOut}</ButtonLink>;
}

export function Agents() {
  const releases = api.useQuery("get", "/api/v1/agent-releases", { params: { query: { limit: 100 } } });
  const settings = api.useQuery("get", "/api/v1/agent-settings", { params: { query: { limit: 50 } } });
  return (
    <div className="stack">
      <Section title={words.releases}>
        {releases.error && !releases.data ? <ErrorPanel error={releases.error} retry={releases.refetch} /> : !releases.data ? <Skeleton height={100} /> : releases.data.items.length === 0 ? (
          <Empty title={words.noReleases} command="aidos agent release push ./aidos-agent --version 1.4.0" />
        ) : (
          <div className="scroll-x">
            <table className="plain">
              <thead><tr><th>{text.models.version}</th><th>{words.arch}</th><th className="end">{text.models.size}</th><th>{text.models.created}</th><th><VisuallyHidden>{text.ui.actions}</VisuallyHidden></th></tr></thead>
              <tbody>
                {releases.data.items.map((release) => (
                  <tr key={`${release.version}/${release.arch}`}>
                    <td className="mono"><Name>{release.version}</Name></td>
                    <td>{release.arch}</td>
                    <td className="end nums">{bytes(release.size)}</td>
                    <td><TimeAgo at={release.created_at} /></td>
                    <td className="end"><RollOut subject={`agent.release@${release.version}`} /></td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Section>
      <Section title={words.settings}>
        {settings.error && !settings.data ? <ErrorPanel error={settings.error} retry={settings.refetch} /> : !settings.data ? <Skeleton height={100} /> : settings.data.items.length === 0 ? (
          <Empty title={words.noSettings} command="aidos config push settings.toml" />
        ) : (
          settings.data.items.map((one) => (
            <details key={one.version} className="command-row">
              <summary>
                <strong className="nums">{text.models.version} {one.version}</strong> <span className="dim"><TimeAgo at={one.created_at} /></span> <RollOut subject={`agent.config@${one.version}`} />
              </summary>
              <pre className="logs" tabIndex={0}>{JSON.stringify(one.settings, undefined, 2)}</pre>
            </details>
          ))
        )}
      </Section>
      <Text size="sm" className="dim">{words.lead}</Text>
    </div>
  );
}
