# programs.sh: whole programs, for bench/program.c.
#
#   programs.sh prepare NAME SIZE   what NAME reads, made in this folder
#   programs.sh run NAME SIZE       the run that is timed; the same output with
#                                   any malloc
#
# A prepared folder is the same every time.

do=$1 name=$2 size=$3
export LC_ALL=C TZ=UTC HOME="$PWD" GIT_CONFIG_NOSYSTEM=1

# So many lines of words and numbers.
lines() {
    awk -v n="$1" 'BEGIN {
        s = 1
        for (i = 0; i < n; i++) {
            l = ""
            for (j = 0; j < 8; j++) {
                s = (s * 16807) % 2147483647
                l = l sprintf("%c%c%d ", 97 + s % 26, 97 + s % 17, s % 9973)
            }
            print l
        }
    }'
}

# A C file of so many functions.
functions() {
    awk -v n="$1" 'BEGIN {
        print "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>"
        for (i = 0; i < n; i++)
            printf "struct s%d { int a, b[%d]; struct s%d *next; };\n" \
                "int f%d(struct s%d *s, int n) {\n  int t = %d;\n" \
                "  for (int i = 0; i < n; i++)\n" \
                "    t += s->b[i %% %d] * i ^ s->a;\n" \
                "  switch (n) { case 1: t++; break; case %d: t *= n; }\n" \
                "  return s->next && t > %d ? f%d(s->next, n - 1) : t;\n}\n",
                i, i % 9 + 1, i, i, i, i, i % 9 + 1, i % 50 + 2, i, i
    }'
}

repository() {
    git init -q -b main .
    git config user.name a
    git config user.email a@b
    export GIT_AUTHOR_DATE='@1000000000 +0000'
    export GIT_COMMITTER_DATE='@1000000000 +0000'
    lines 1500 > text
    i=0
    while [ $i -lt $((size * 2)) ]; do
        i=$((i + 1))
        sed "$((i * 7))s/^/$i /; $((i * 13))d" text > next
        mv next text
        functions $((i * 5)) > code.c
        git add text code.c
        git commit -q -m "$i"
    done
}

case "$do $name" in
"prepare sort") lines $((size * 4000)) > text ;;
"prepare gawk") lines $((size * 1000)) > text ;;
"prepare perl") lines $((size * 400)) > text ;;
"prepare tar-xz") lines $((size * 1000)) > text; functions 200 > code.c ;;
"prepare cc1") functions $((size * 6)) > code.c ;;
"prepare git") repository ;;
"prepare jq")
    awk -v n=$((size * 2000)) 'BEGIN {
        print "["
        for (i = 0; i < n; i++)
            printf "%s{\"a\":%d,\"b\":[\"%d\",\"x\"],\"c\":{\"d\":%d.5}}\n",
                i ? "," : "", i % 97, i, i
        print "]"
    }' > data ;;
"prepare "*) ;;
"run bash") exec bash -c '
    declare -A a
    for ((i = 0; i < '$size' * 4000; i++)); do
        a[k$((i % 3000))]+=$i
        b=(${a[k$i]:0:40} x$i y$i)
    done
    for k in k1 k22 k333; do echo "${#a[$k]} ${b[1]}"; done' ;;
"run python3") PYTHONMALLOC=malloc PYTHONHASHSEED=0 exec python3 -S -E -c '
import sys
n = int(sys.argv[1])
class Node:
    def __init__(self, left, right): self.left, self.right = left, right
def make(depth):
    return Node(make(depth - 1), make(depth - 1)) if depth else Node(None, None)
def count(node):
    return 1 + count(node.left) + count(node.right) if node.left else 1
d, words = {}, []
for i in range(n * 4000):
    d["k%d" % (i % 7919)] = [i, str(i), (i,)]
    words.append("w%d" % (i * 7 % 1013))
    if i % 4000 == 0: words = sorted(set(words)); words.append(str(count(make(9))))
print(len(d), len(words), sum(v[0] for v in d.values()), "".join(words)[:60])
' "$size" ;;
"run perl") exec perl -e '
    my (%h, @l);
    open my $f, "<", "text";
    while (<$f>) { for my $w (split) { $h{$w}++; push @l, substr $w, 0, 2 } }
    my @k = sort { $h{$b} <=> $h{$a} || $a cmp $b } keys %h;
    my %i = map { $_ => [length, $h{$_}] } @k;
    print scalar(@l), " ", scalar(keys %i), " @k[0 .. 5]\n"' ;;
"run lua") exec lua5.4 -e '
    local n, t, words = '$size', {}, {}
    for i = 1, n * 20000 do
        local k = "k" .. i % 4999
        t[k] = {i, k, function() return i end}
        words[#words + 1] = k .. i
        if #words == 1000 then t[i % 50] = table.concat(words, ","); words = {} end
    end
    local sum, length = 0, 0
    for _, v in pairs(t) do
        if type(v) == "table" then sum = sum + v[3]() else length = length + #v end
    end
    print(sum, length)' ;;
"run sqlite3") exec sqlite3 :memory: "
    create table t(a integer primary key, b text, c real);
    with recursive n(i) as
        (select 1 union all select i + 1 from n where i < $size * 6000)
        insert into t select i, 'row' || i * 7919 % 9973, i * 0.5 from n;
    create index x on t(b);
    select b, count(*), sum(c) from t group by b order by 3 desc, 1 limit 5;
    update t set b = b || 'x' where a % 3 = 0;
    select count(distinct b), max(length(b)) from t where a % 7 < 4;
    select group_concat(b) from (select b from t order by c desc limit 9);" ;;
"run cc1") exec gcc -O1 -S -o - code.c ;;
"run jq") exec jq -c 'group_by(.a)
    | map({a: .[0].a, n: length, s: (map(.b[0] | tonumber) | add)})
    | sort_by(-.s) | .[0:9]' data ;;
"run tar-xz") tar --sort=name --mtime=@0 --owner=0 --group=0 -cf - text code.c |
    xz -2 -T2 --block-size=256KiB ;;
"run sort") sort --parallel=2 -S 8M -k 3,3 -k 1n text ;;
"run gawk") exec gawk '
    { for (i = 1; i <= NF; i++) { n[$i]++; where[$i] = where[$i] NR "," } }
    END {
        k = asorti(n, sorted)
        for (i = 1; i <= k; i += 997)
            print sorted[i], n[sorted[i]], length(where[sorted[i]])
    }' text ;;
"run git") git log -p --stat -M -w && git repack -q -a -d -f --threads=2 &&
    git fsck --full --no-progress && git blame text ;;
*) echo "programs.sh: nothing is known of $do $name" >&2; exit 2 ;;
esac
