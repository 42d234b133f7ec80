/** What went wrong and what to do next. */
import { Alert, Button, Group, Text } from "@mantine/core";
import { objectionIn } from "~/api/objection";
import { adviceOf, ApiError } from "~/api/problem";
import { text } from "~/text";
import { Wrong } from "./Wrong";

export function ErrorPanel({ error, retry }: { error: unknown; retry?: () => unknown }) {
  const objection = objectionIn(error);
  const title = objection?.reason ?? (error instanceof Error ? error.message : text.errors.unexpected);
  const request = error instanceof ApiError ? error.problem.request_id : undefined;
  const field = objection?.field && !title.startsWith(objection.field) ? `${objection.field}: ` : "";
  return (
    <Alert role="alert" variant="default" className="error-panel" title={objection?.excerpt ? <>{field}<Wrong objection={objection} /></> : <bdi>{field}{title}</bdi>}>
      <Group justify="space-between" align="end">
        <div>
          <Text size="sm">{adviceOf(error)}</Text>
          {request && <Text size="xs" className="dim mono">{text.errors.request(request)}</Text>}
        </div>
        {retry && (
          <Button size="xs" variant="default" onClick={() => void retry()}>
            {text.errors.retry}
          </Button>
        )}
      </Group>
    </Alert>
  );
}
