# Half of a log in the Standard Workload Format, of light users: narrow jobs of people whose work keeps less than ten cores
# busy on average, so that it fits on a small fleet. Give the file twice, and -v half=1 or 2.
/^;/ { if (FNR == NR) next; print; next }
{ cores = $5 > 0 ? $5 : $8 }
FNR == NR { if (cores <= 8 && $4 > 0) work[$12] += cores * $4; if ($2 > last) last = $2; next }
cores <= 8 && $7 * cores < 3.3e7 && $4 > 0 && work[$12] / last < 10 && ($2 < last / 2) == (half == 1)
