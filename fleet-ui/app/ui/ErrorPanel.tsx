/** What went wrong and what to do next. */
import { Alert, Button, Group, Text } from "@mantine/core";
import { adviceOf, ApiError } from "~/api/problem";
import { text } from "~/text";

export function ErrorPanel({ error, retry }: { error: unknown; retry?: () => unknown }) {
  const title = error instanceof Error ? error.message : text.errors.unexpected;
  const request = error instanceof ApiError ? error.problem.request_id : undefined;
  const field = error instanceof ApiError ? error.problem.field : undefined;
  return (
    <Alert role="alert" variant="default" className="error-panel" title={<bdi>{field ? `${field}: ${title}` : title}</bdi>}>
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
