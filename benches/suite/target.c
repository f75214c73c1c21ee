/* In the real Codex's place: ends at once. */
int main(void) { return 0; }
