-- Take a member out of a lane.
--
-- KEYS  1 who asked, by when (zset)   2 what they said of themselves (hash)
-- ARGV  1 member
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
