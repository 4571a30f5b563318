"""What the kernel offers for many datagrams at once: recvmmsg(2), sendmmsg(2). Part of hot.pyx."""

cdef extern from "<netinet/in.h>" nogil:
    ctypedef uint32_t socklen_t
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct sockaddr:
        uint16_t sa_family
    struct sockaddr_storage:
        uint16_t ss_family
    struct sockaddr_in:
        uint32_t sin_addr
    struct sockaddr_in6:
        uint8_t sin6_addr[16]
    int AF_INET
    int MSG_DONTWAIT
    int recvmmsg(int fd, mmsghdr *messages, unsigned int count, int flags, void *timeout)
    int sendmmsg(int fd, mmsghdr *messages, unsigned int count, int flags)
    ssize_t sendto(int fd, const void *data, size_t size, int flags, const sockaddr *to, socklen_t to_size)
