/** How the control plane was set up: what keeps its data, where it is reached, what it takes. For owners of the root tenant. */
import { Skeleton } from "@mantine/core";
import { api } from "~/api/client";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { bytes, integer } from "~/ui/format";
import { KeyValue, Section } from "~/ui/Section";

const words = text.settings.installation;

function Address({ children }: { children?: string | undefined }) {
  return children ? <span className="mono wrap">{children}</span> : <span className="dim">{words.off}</span>;
}

export function Installation() {
  const installation = api.useQuery("get", "/api/v1/installation", {});
  if (installation.error && !installation.data) return <ErrorPanel error={installation.error} retry={installation.refetch} />;
  const view = installation.data;
  if (!view) return <Skeleton height={240} />;
  const { database, objects, endpoints, limits } = view;
  return (
    <>
      <Section title={words.data}>
        <KeyValue items={[[words.database, words.databases[database]], [words.objects, <Address key="o">{objects.store}</Address>], [words.fetched, objects.presigned ? words.presigned : words.through]]} />
      </Section>
      <Section title={words.links}>
        <KeyValue items={[[words.api, <Address key="a">{endpoints.api_url}</Address>], ["QUIC", <Address key="q">{endpoints.quic}</Address>], ["MQTT", <Address key="m">{endpoints.mqtt}</Address>]]} />
      </Section>
      <Section title={words.limits}>
        <KeyValue
          items={[
            [words.model, bytes(limits.model_bytes)],
            [words.artifact, bytes(limits.artifact_bytes)],
            [words.chunk, bytes(limits.upload_chunk_bytes)],
            [words.request, bytes(limits.request_bytes)],
            [words.page, integer(limits.page_items)],
            [words.uses, integer(limits.token_uses)],
          ]}
        />
      </Section>
    </>
  );
}
