/** Signs in with a key, or with the code of a one-time link, which is removed from the address at once. */
import { Alert, Button, PasswordInput, Stack, Text, Title } from "@mantine/core";
import { getRouteApi, useRouter } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { http, type Schemas } from "~/api/client";
import { isStatus } from "~/api/problem";
import { session } from "~/api/session";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";

const route = getRouteApi("/sign-in");

function takeCode(): string | undefined {
  const code = /^#code=([^&]+)/.exec(location.hash)?.[1];
  if (code) history.replaceState(history.state, "", location.pathname + location.search);
  return code && decodeURIComponent(code);
}

export function SignIn() {
  const { from } = route.useSearch();
  const router = useRouter();
  const [code] = useState(takeCode);
  const [key, setKey] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();

  const begin = async (body: Schemas["CreateSession"]) => {
    setBusy(true);
    setError(undefined);
    try {
      const { data } = await http.POST("/api/v1/session", { body });
      if (data) session.begun(data);
      setKey("");
      router.history.replace(from ?? "/");
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  useEffect(() => {
    document.title = text.ui.page(text.session.title);
    if (code) void begin({ code });
  }, [code]);

  return (
    <main className="signin">
      <div className="section">
        <form onSubmit={(event) => (event.preventDefault(), void begin({ api_key: key.trim() }))}>
          <Stack gap="lg">
            <div>
              <span className="brand"><img src="/icon.svg" alt="" />{text.shell.product}</span>
              <Title order={1} size="h3" mt="lg">{text.session.title}</Title>
              <Text size="sm" className="dim" mt={4}>{code && busy ? text.session.withLink : text.session.lead}</Text>
            </div>
            <PasswordInput
              label={text.session.key}
              description={text.session.keyHint}
              value={key}
              onChange={(event) => setKey(event.currentTarget.value)}
              autoComplete="current-password"
              autoFocus
            />
            {error !== undefined &&
              (isStatus(error, 401) || isStatus(error, 410) ? (
                <Alert role="alert" variant="default" className="error-panel" title={code ? text.session.badLink : text.session.wrong}>
                  {code && text.session.badLinkAdvice}
                </Alert>
              ) : (
                <ErrorPanel error={error} />
              ))}
            <Button type="submit" loading={busy} disabled={!key.trim()}>{text.session.submit}</Button>
          </Stack>
        </form>
      </div>
    </main>
  );
}
