/** What is shown in the place of a page that failed. */
import { ErrorPanel } from "~/ui/ErrorPanel";

export function RouteError({ error, reset }: { error: unknown; reset: () => void }) {
  return (
    <div className="page">
      <ErrorPanel error={error} retry={reset} />
    </div>
  );
}
