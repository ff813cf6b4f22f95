# Cuts a log in the Standard Workload Format into pieces of equal time, each with a clock of its own: PREFIX-0.swf and so on. Give the
# file twice, and -v parts=N -v out=PREFIX. NASA's halves in docs/reference/training.md are those of parts=2.
/^;/ { next }
FNR == NR { if ($2 > last) last = $2; if (first == "" || $2 < first) first = $2; next }
{
    length_s = last - first + 1
    i = int(($2 - first) * parts / length_s)
    $2 = $2 - int(first + i * length_s / parts)
    print > (out "-" i ".swf")
}
