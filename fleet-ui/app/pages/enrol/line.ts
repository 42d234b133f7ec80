/** The line that joins a device, with its name. Pure. */

/** `word` as a POSIX shell reads it as one word, whatever is in it. */
export const quoted = (word: string): string => (/^[\w.@%+=:,/-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** `command` for the device that is to be called `name`; for the host's own name where that is empty. */
export const lineFor = (command: string, name: string): string => (name.trim() ? `${command} --name ${quoted(name.trim())}` : command);
