/* Connects to a port of this host and lets its main thread end; another goes on until its input ends. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static void *go_on(void *unused) {
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    exit(0);
    return unused;
}

int main(int count, char **arguments) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    pthread_t thread;
    if (count != 2)
        return 2;
    address.sin_port = htons((unsigned short)atoi(arguments[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(s, (struct sockaddr *)&address, sizeof address) || pthread_create(&thread, 0, go_on, 0))
        return 1;
    pthread_exit(0);
}
