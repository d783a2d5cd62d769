// What a failed request says.

export function messageOf(failure: unknown): string {
  const { data, statusText, message } = failure as { data?: { error?: string; message?: string } | string; statusText?: string; message?: string };
  if (typeof data === 'string' && data) return data.trim();
  return (typeof data === 'object' && (data?.error ?? data?.message)) || message || statusText || 'the server did not answer';
}
