/** What this control plane is, who is signed in, where its documents are, and how it was set up. */
import { api } from "~/api/client";
import { session } from "~/api/session";
import { text } from "~/text";
import { Name } from "~/ui/Name";
import { KeyValue, Section } from "~/ui/Section";
import { TimeAgo } from "~/ui/TimeAgo";
import { Installation } from "./Installation";

const words = text.settings.about;

export function About() {
  const overview = api.useQuery("get", "/api/v1/overview", {});
  const me = session.get();
  return (
    <div className="stack">
      <Section title={text.settings.tabs.about}>
        <KeyValue
          items={[
            [words.version, overview.data?.server_version],
            [words.tenant, me && <Name key="t">{me.tenant.name}</Name>],
            [words.key, me && <span key="k"><Name>{me.key_name}</Name> <span className="dim">{text.shell.role[me.role]}</span></span>],
            [words.session, me && <TimeAgo key="s" at={me.expires_at} />],
            [words.api, <span key="a" className="mono">{location.origin}/api/v1</span>],
            [words.openapi, <a key="o" href="/api/v1/openapi.json">openapi.json</a>],
            [words.docs, <a key="d" href="/docs/">/docs/</a>],
            [words.ca, <a key="c" href="/api/v1/ca.pem" download>ca.pem</a>],
          ]}
        />
      </Section>
      {session.may("owner") && me?.tenant.root && <Installation />}
    </div>
  );
}
