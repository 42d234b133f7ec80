/** The frames of content: a page's head, a section with a heading, and what is shown where there is nothing. */
import { Group, Stack, Text, Title } from "@mantine/core";
import { useEffect, type ReactNode } from "react";
import { text } from "~/text";
import { Command } from "./CopyButton";

export function PageHead({ title, heading, children }: { title: string; heading?: ReactNode; children?: ReactNode }) {
  useEffect(() => {
    document.title = text.ui.page(title.slice(0, 80));
  }, [title]);
  return (
    <header className="page-head">
      <Title order={1} className="page-title" dir="auto">
        {heading ?? title}
      </Title>
      <div className="page-actions">{children}</div>
    </header>
  );
}

export function Section({ title, aside, children }: { title: string; aside?: ReactNode; children: ReactNode }) {
  return (
    <section className="section" aria-label={title}>
      <Group justify="space-between" wrap="nowrap" mb="sm" mih={28}>
        <Title order={2} className="section-title">
          {title}
        </Title>
        {aside}
      </Group>
      {children}
    </section>
  );
}

export function Empty({ title, lead, command, children }: { title: string; lead?: string; command?: string; children?: ReactNode }) {
  return (
    <Stack className="empty" gap="xs" align="center">
      <Text fw={600}>{title}</Text>
      {lead && <Text className="dim">{lead}</Text>}
      {command && <Command>{command}</Command>}
      {children}
    </Stack>
  );
}

export function KeyValue({ items }: { items: readonly (readonly [string, ReactNode])[] }) {
  return (
    <dl className="facts">
      {items.map(([key, value]) => (
        <div key={key}>
          <dt>{key}</dt>
          <dd>{value ?? text.ui.nothing}</dd>
        </div>
      ))}
    </dl>
  );
}
